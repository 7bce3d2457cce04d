"""Writing a file whole or not at all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from sparseflow.errors import DataError

__all__ = ["write_atomic"]


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
