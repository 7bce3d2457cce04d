"""Launches a built kernel that takes one structure, with what plain launches cannot say."""

import ctypes

from sparseflow.ops.spike_layer import _build

__all__ = ["Attribute", "Launch", "launch"]

CLUSTER = 4
SERIAL = 6


class Attribute(ctypes.Structure):
    """`CUlaunchAttribute`."""

    _fields_ = (("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_uint * 16))


class Launch(ctypes.Structure):
    """`CUlaunchConfig`."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(Attribute)),
        ("count", ctypes.c_uint),
    )


def launch(
    handle: ctypes.c_void_p,
    params: ctypes.Structure,
    what: str,
    *,
    grid: int,
    threads: int,
    shared: int,
    stream: int,
    cluster: int = 1,
    early: bool = False,
) -> None:
    """Launch a kernel on a stream.

    Args:
        handle: the kernel.
        params: its one argument.
        what: its name in errors.
        grid: blocks.
        threads: of a block.
        shared: bytes of a block's dynamic shared memory.
        stream: the stream.
        cluster: blocks of a cluster.
        early: start before the kernel in front ends; the kernel then waits for it itself.

    Raises:
        UnsupportedError: the driver refuses.
    """
    made = []
    if cluster > 1:
        made.append(Attribute(CLUSTER, 0, (ctypes.c_uint * 16)(cluster, 1, 1)))
    if early:
        made.append(Attribute(SERIAL, 0, (ctypes.c_uint * 16)(1)))
    attributes = (Attribute * max(1, len(made)))(*made)
    config = Launch(
        (ctypes.c_uint * 3)(grid, 1, 1), (ctypes.c_uint * 3)(threads, 1, 1), shared, stream, attributes, len(made)
    )
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(params))
    status = _build.driver().cuLaunchKernelEx(ctypes.byref(config), handle, arguments, None)
    _build.check(status, f"the launch of kernel '{what}'")
