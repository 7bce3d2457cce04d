"""What a launch tells the driver, without one."""

import ctypes

import pytest

from sparseflow.errors import UnsupportedError
from sparseflow.ops.spike_layer import _build, _launch


class Numbers(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_longlong))


class Driver:
    """Keeps what it is told."""

    def __init__(self, status=0):
        self.status, self.seen = status, []

    def cuLaunchKernelEx(self, config, handle, arguments, extra):
        made = config._obj
        given = Numbers.from_address(arguments[0])
        attributes = [(made.attributes[i].id, list(made.attributes[i].value)[:3]) for i in range(made.count)]
        self.seen.append((list(made.grid), list(made.block), made.shared, made.stream, attributes, given.a, given.b))
        return self.status

    def cuGetErrorString(self, status, text):
        text._obj.value = b"no room"


def launch(monkeypatch, driver, **more):
    monkeypatch.setattr(_build, "driver", lambda: driver)
    _launch.launch(ctypes.c_void_p(1), Numbers(3, 2**40), "event", grid=7, threads=96, shared=1024, stream=5, **more)


def test_a_plain_launch_has_no_attributes(monkeypatch):
    driver = Driver()
    launch(monkeypatch, driver)
    assert driver.seen == [([7, 1, 1], [96, 1, 1], 1024, 5, [], 3, 2**40)]


def test_clusters_and_early_starts_are_attributes(monkeypatch):
    driver = Driver()
    launch(monkeypatch, driver, cluster=4, early=True)
    assert driver.seen[0][4] == [(_launch.CLUSTER, [4, 1, 1]), (_launch.SERIAL, [1, 0, 0])]


def test_a_refusal_names_the_kernel(monkeypatch):
    with pytest.raises(UnsupportedError, match="the launch of kernel 'event' failed: no room"):
        launch(monkeypatch, Driver(status=2))


def test_structures_are_as_the_driver_lays_them_out():
    """Offsets of CUlaunchConfig and CUlaunchAttribute of cuda.h on 64-bit machines."""
    assert [getattr(_launch.Launch, name).offset for name, _ in _launch.Launch._fields_] == [0, 12, 24, 32, 40, 48]
    assert (_launch.Attribute.value.offset, ctypes.sizeof(_launch.Attribute)) == (8, 72)
