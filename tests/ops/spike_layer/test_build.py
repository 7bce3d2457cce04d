"""Building the CUDA kernel: with nvcc where it is installed, from the cache, and refused without a compiler."""

import shutil
import subprocess
from pathlib import Path

import pytest

from sparseflow.errors import UnsupportedError
from sparseflow.ops.spike_layer import _build, pairs
from sparseflow.ops.spike_layer.cuda import configure

KIND = {"OUT": 0, "ADD": 0, "OUTP": 1, "LEAK": 1, "RESET": 1, "V0": 0, "KEEPV": 0}
FIXED = {"pairs": True, "cores": 132}
NVCC = shutil.which("nvcc")


def defines(pixels, steps, channels, chunks, planes=1, halves=1, int8=False, **kind):
    made = configure(
        pixels=pixels,
        steps=steps,
        channels=channels,
        chunks=chunks,
        planes=planes,
        halves=halves,
        int8=int8,
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


def complaints(text: str, folder: Path) -> str:
    """What nvcc and, where it can be imported, NVRTC say while they build."""
    (folder / "k.cu").write_text(text)
    command = ["nvcc", "-std=c++17", "-gencode=arch=compute_90a,code=sm_90a", "-cubin", "-Xptxas", "-v", "k.cu"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    said = [run.stderr]
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        return run.stderr
    _, program = nvrtc.nvrtcCreateProgram(text.encode(), b"k.cu", 0, [], [])
    options = [b"--gpu-architecture=sm_90a", b"--std=c++17", b"--ptxas-options=-v"]
    nvrtc.nvrtcCompileProgram(program, len(options), options)
    log = b" " * nvrtc.nvrtcGetProgramLogSize(program)[1]
    nvrtc.nvrtcGetProgramLog(program, log)
    return "".join([*said, log.decode()])


RING = {"pixels": 6272, "channels": 256, "chunks": 36}


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize(
    "sizes",
    [
        RING | {"steps": 16},
        RING | {"steps": 4},
        RING | {"steps": 4, "halves": 2},
        RING | {"steps": 16, "chunks": 72, "int8": True},
        {"pixels": 100352, "channels": 64, "chunks": 9, "steps": 16, "halves": 2},
        {"pixels": 1568, "channels": 512, "chunks": 72, "steps": 16, "planes": 2},
    ],
    ids=str,
)
def test_products_stay_under_way(sizes, tmp_path):
    """A compiler that loses track of operands waits for each product, which costs half the time again."""
    said = complaints(_build.source(defines(**sizes)), tmp_path)
    assert "registers" in said
    assert "serialized" not in said


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed")
@pytest.mark.parametrize("count", pairs.COUNTS)
def test_pairs_keep_their_products_under_way_in_registers(count, tmp_path):
    made = pairs.configure(count=count, add=1, out_planes=2, reset=2)
    said = complaints(_build.source(dict(made), pairs.NAME), tmp_path)
    assert "serialized" not in said
    assert " 0 bytes spill stores" in said


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
