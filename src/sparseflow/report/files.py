"""Writing run folders: checked before the work, atomic after it."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from sparseflow.errors import DataError

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


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a file so that readers see the old one or the whole new one, never a part.

    Args:
        path: the file to write; its folder must exist.
        content: text (stored as UTF-8) or bytes.

    Returns:
        The path written.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as e:
        _remove(temporary)
        raise DataError(f"cannot write {path}: {e.strerror or e}; check the folder and the free space") from e
    except BaseException:
        _remove(temporary)
        raise
    return path


def _remove(temporary: str) -> None:
    if temporary:
        with suppress(OSError):
            os.unlink(temporary)
