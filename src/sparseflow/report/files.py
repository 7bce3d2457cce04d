"""Run folders: checked before the work, filled by atomic writes after it."""

import os
import tempfile
from pathlib import Path

from sparseflow.errors import DataError
from sparseflow.ir.files import write_atomic

__all__ = ["prepare_folder", "write_atomic"]


def prepare_folder(folder: str | Path) -> Path:
    """Create a run folder and prove that it can be written, before any work is done.

    Args:
        folder: where the run's files will go; parents are created.

    Returns:
        The folder as an absolute path.

    Raises:
        DataError: it has no name, is a file, or cannot be created or written.
    """
    if not str(folder).strip():
        raise DataError("the run folder has no name; name one")
    path = Path(folder).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle, probe = tempfile.mkstemp(prefix=".probe-", dir=path)
        os.close(handle)
        os.unlink(probe)
    except OSError as e:
        reason = "it is a file" if isinstance(e, FileExistsError) else e.strerror or str(e)
        raise DataError(f"cannot write to run folder {path}: {reason}; choose another") from e
    return path
