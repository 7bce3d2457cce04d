"""Plan files: an integer network in one file, for the C++ engine and for whoever reads safetensors."""

from pathlib import Path

from sparseflow.errors import DataError
from sparseflow.ir.files import write_atomic
from sparseflow.ops.int8_net import Program

__all__ = ["make_folder", "read_plan", "write_plan"]


def write_plan(program: Program, path: str | Path) -> Path:
    """Write a program as a plan file, whole or not at all; its folder is made.

    The same program gives the same bytes. The format is in the README of this folder.

    Args:
        program: the network.
        path: the file; its name conventionally ends in `.plan.safetensors`.

    Raises:
        DataError: the file or its folder cannot be written.
    """
    path = Path(path)
    make_folder(path.parent)
    return write_atomic(path, program.to_bytes())


def read_plan(path: str | Path) -> Program:
    """Read a plan file.

    Raises:
        DataError: it cannot be read, or is no plan; names the file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise DataError(
            f"cannot read {path}: {e.strerror or e}; name a file that `sparseflow triseg export` wrote"
        ) from e
    try:
        return Program.from_bytes(data)
    except DataError as e:
        raise DataError(f"{path}: {e}; export the network again") from e


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        DataError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"cannot make the folder {folder}: {e.strerror or e}; name another") from e
