"""Building the CUDA kernel: with nvcc where it is installed, from the cache, and refused without a compiler."""

import shutil

import pytest

from sparseflow.errors import UnsupportedError
from sparseflow.ops.spike_layer import _build
from sparseflow.ops.spike_layer.cuda import configure

KIND = {"OUT": 0, "ADD": 0, "OUTP": 1, "LEAK": 1, "RESET": 1, "V0": 0, "KEEPV": 0}
FIXED = {"halves": 1, "pairs": True, "cores": 132}
NVCC = shutil.which("nvcc")


def defines(pixels, steps, channels, chunks, planes=1, **kind):
    made = configure(
        pixels=pixels,
        steps=steps,
        channels=channels,
        chunks=chunks,
        planes=planes,
        kind=tuple((KIND | kind).items()),
        **FIXED,
    )
    return dict(made.defines)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSEFLOW_CACHE", str(tmp_path))
    return tmp_path / "kernels"


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize(
    "sizes",
    [
        {"pixels": 100352, "steps": 4, "channels": 64, "chunks": 9},
        {"pixels": 1568, "steps": 16, "channels": 512, "chunks": 72, "planes": 2, "ADD": 2, "OUTP": 3, "RESET": 0},
        {"pixels": 49, "steps": 5, "channels": 32, "chunks": 72, "V0": 1, "KEEPV": 1, "RESET": 2},
        {"pixels": 5000, "steps": 1, "channels": 32, "chunks": 3, "OUT": 1},
    ],
)
def test_the_kernel_builds(sizes):
    code = _build._by_nvcc(_build.source(defines(**sizes)), NVCC)
    assert code.startswith(b"\x7fELF")


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
def test_a_compilers_complaint_is_shown():
    with pytest.raises(UnsupportedError, match="nvcc cannot build"):
        _build._by_nvcc("no kernel at all", NVCC)


def test_a_kernel_is_built_once(fresh, monkeypatch):
    built = []
    monkeypatch.setattr(_build, "compiler", lambda: "nvrtc 13.0")
    monkeypatch.setattr(_build, "_by_nvrtc", lambda text: built.append(text) or b"code")
    for _ in range(2):
        assert _build.cubin({"BN": 64}) == b"code"
    assert len(built) == 1
    assert built[0].startswith("#define BN 64\n")
    assert [f.read_bytes() for f in fresh.iterdir()] == [b"code"]
    _build.cubin({"BN": 32})
    monkeypatch.setattr(_build, "compiler", lambda: "nvrtc 13.1")
    _build.cubin({"BN": 32})
    assert len(built) == 3


def test_a_disk_that_cannot_be_written_does_no_harm(fresh, monkeypatch):
    fresh.write_text("a file where the folder should be")
    monkeypatch.setattr(_build, "compiler", lambda: "nvrtc 13.0")
    monkeypatch.setattr(_build, "_by_nvrtc", lambda text: b"code")
    assert _build.cubin({"BN": 64}) == b"code"


def test_without_a_compiler_it_says_what_to_install(fresh, monkeypatch):
    monkeypatch.setattr(_build, "compiler", lambda: None)
    with pytest.raises(UnsupportedError, match="install cuda-core"):
        _build.cubin({"BN": 64})


def test_without_a_driver_it_says_so(monkeypatch):
    def absent(name):
        raise OSError("not here")

    monkeypatch.setattr(_build.ctypes, "CDLL", absent)
    _build.driver.cache_clear()
    with pytest.raises(UnsupportedError, match="no CUDA driver"):
        _build.driver()
