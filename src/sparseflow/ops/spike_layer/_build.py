"""Builds the CUDA kernel for one set of defines, keeps it on disk, and loads it."""

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

from sparseflow.errors import UnsupportedError
from sparseflow.ir.env import cache_folder

__all__ = ["check", "compiler", "cubin", "driver", "function", "refusal", "source"]

NAME = "spike_layer"
ARCH = "sm_90a"
TIMEOUT_S = 300
MAX_SHARED = 8
INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


def source(defines: Mapping[str, int], name: str = NAME) -> str:
    """Return the kernel's text with its defines in front and what it includes in its place."""
    text = INCLUDE.sub(lambda found: _text(found[1]), _text(f"{name}.cu"))
    return "".join(f"#define {key} {value}\n" for key, value in defines.items()) + text


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def compiler() -> str | None:
    """Return what can build the kernel, with its version: NVRTC through `cuda.core`, else nvcc; None where neither is.

    >>> compiler() is None or compiler().split()[0] in ("nvrtc", "nvcc")
    True
    """
    try:
        from cuda.bindings import nvrtc
        from cuda.core import Program  # noqa: F401

        _, major, minor = nvrtc.nvrtcVersion()
        return f"nvrtc {major}.{minor}"
    except Exception:  # a broken installation fails in ways of its own
        pass
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        return None
    run = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return f"nvcc {hashlib.sha256(run.stdout.encode()).hexdigest()[:8]} {nvcc}" if run.returncode == 0 else None


@lru_cache(maxsize=64)
def refusal(device: torch.device) -> str | None:
    """Return why a compiled kernel cannot run on a device, or None.

    >>> refusal(torch.device("cpu"))
    'compiled for GPUs of compute capability 9.0 only; the words are on cpu'
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != (9, 0):
        return f"compiled for GPUs of compute capability 9.0 only; the words are on {device}"
    if compiler() is None:
        return "built at first use, by NVRTC or nvcc; install cuda-core, or CUDA 12 or later"
    return None


def folder() -> Path:
    """Return where built kernels are kept."""
    return cache_folder() / "kernels"


def cubin(defines: Mapping[str, int], name: str = NAME) -> bytes:
    """Return the machine code, from disk if it was built before.

    Raises:
        UnsupportedError: there is no compiler, or it fails.
    """
    made_by, text = compiler(), source(defines, name)
    if made_by is None:
        raise UnsupportedError(
            "spike_layer: kernel 'cuda' is built at first use, by NVRTC or nvcc; install cuda-core, or CUDA 12 or later"
        )
    key = hashlib.sha256(f"{ARCH}\n{made_by}\n{text}".encode()).hexdigest()[:32]
    path = folder() / f"{name}-{key}.cubin"
    if path.is_file():
        return path.read_bytes()
    code = _by_nvrtc(text) if made_by.startswith("nvrtc") else _by_nvcc(text, made_by.split(" ", 2)[2])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code)
        Path(file.name).replace(path)
    except OSError:
        pass  # a disk that cannot be written costs a build a process, no more
    return code


def _by_nvrtc(text: str) -> bytes:
    from cuda.core import Program, ProgramOptions

    try:
        return bytes(Program(text, "c++", ProgramOptions(arch=ARCH, std="c++17")).compile("cubin").code)
    except Exception as e:
        raise UnsupportedError(f"spike_layer: NVRTC cannot build kernel 'cuda': {e}") from e


def _by_nvcc(text: str, nvcc: str) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "k.cu").write_text(text, encoding="utf-8")
        command = [nvcc, "-std=c++17", "-gencode=arch=compute_90a,code=sm_90a", "-cubin", "-o", "k.cubin", "k.cu"]
        run = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if run.returncode != 0:
            raise UnsupportedError(f"spike_layer: nvcc cannot build kernel 'cuda': {run.stderr[-2000:]}")
        return (Path(place) / "k.cubin").read_bytes()


@cache
def driver() -> Any:
    """Return the CUDA driver's library.

    Raises:
        UnsupportedError: there is none.
    """
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as e:
        raise UnsupportedError(f"spike_layer: there is no CUDA driver ({e})") from None


def check(status: int, what: str) -> None:
    """Raise on a driver's error.

    Raises:
        UnsupportedError: always, unless `status` is 0.
    """
    if status != 0:
        text = ctypes.c_char_p()
        driver().cuGetErrorString(status, ctypes.byref(text))
        raise UnsupportedError(f"spike_layer: {what} failed: {(text.value or b'?').decode()} ({status})")


@lru_cache(maxsize=1024)
def function(device: int, defines: tuple[tuple[str, int], ...], shared: int, name: str = NAME) -> ctypes.c_void_p:
    """Return the loaded kernel, allowed this many bytes of shared memory; the device's context must be current."""
    module, made = ctypes.c_void_p(), ctypes.c_void_p()
    check(driver().cuModuleLoadData(ctypes.byref(module), cubin(dict(defines), name)), "loading the kernel")
    check(driver().cuModuleGetFunction(ctypes.byref(made), module, name.encode()), "finding the kernel")
    check(driver().cuFuncSetAttribute(made, MAX_SHARED, shared), f"asking for {shared} bytes of shared memory")
    return made
