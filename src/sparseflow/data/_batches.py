"""Read CIFAR-10's official python batches without unpickling them.

The files are pickles of protocol 2. Unpickling runs whatever a file names, so this
reader walks the opcodes (`pickletools` only parses them) and interprets the few that
build a dict of byte strings, numbers, lists and one uint8 array. Anything else is
refused.
"""

import pickletools
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import DataError

__all__ = ["read_batch"]

_MARK = object()
_GLOBALS = {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
_VALUES = {
    "BININT",
    "BININT1",
    "BININT2",
    "BINSTRING",
    "SHORT_BINSTRING",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINUNICODE",
}


class _Array:
    def __init__(self) -> None:
        self.state: Any = None


def _until_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _walk(raw: bytes, path: Path) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, value, _ in pickletools.genops(raw):
        op, arg = opcode.name, cast(Any, value)
        if op in ("PROTO", "FRAME"):
            continue
        if op == "STOP":
            return stack.pop()
        if op in _VALUES:
            stack.append(arg)
        elif op in ("BINPUT", "LONG_BINPUT"):
            memo[arg] = stack[-1]
        elif op in ("BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif op == "MARK":
            stack.append(_MARK)
        elif op == "EMPTY_DICT":
            stack.append({})
        elif op == "EMPTY_LIST":
            stack.append([])
        elif op in ("NONE", "NEWFALSE", "NEWTRUE"):
            stack.append({"NONE": None, "NEWFALSE": False, "NEWTRUE": True}[op])
        elif op == "TUPLE":
            stack.append(tuple(_until_mark(stack)))
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(op[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif op == "APPENDS":
            items = _until_mark(stack)
            stack[-1].extend(items)
        elif op == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif op == "SETITEMS":
            items = _until_mark(stack)
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif op == "GLOBAL" and arg in _GLOBALS:
            stack.append(arg)
        elif op == "REDUCE":
            stack[-2:] = [_Array()]
        elif op == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        else:
            raise DataError(f"{path} holds {op} {str(arg)[:60]!r}, which no official CIFAR-10 batch does; not read")
    raise DataError(f"{path} ends early")


def read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images `[N, 3, 32, 32]` and the labels of one batch file.

    Raises:
        DataError: missing, truncated, not an official batch, or holding code.
    """
    try:
        raw = path.read_bytes()
        body = _walk(raw, path)
        body = {k.decode() if isinstance(k, bytes) else k: v for k, v in body.items()}
        # An array's state is (version, shape, dtype, fortran order, bytes).
        pixels = body["data"].state[-1]
        pixels = pixels.encode("latin-1") if isinstance(pixels, str) else pixels
        labels = np.array(body["labels"], np.int64)
        images = np.frombuffer(pixels, np.uint8).reshape(len(labels), 3, 32, 32)
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror}") from e
    except DataError:
        raise
    except Exception as e:
        raise DataError(f"{path} is truncated or not an official CIFAR-10 batch: {e}") from e
    return images, labels
