"""The machine and the versions behind a run."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

__all__ = ["describe"]

_PACKAGES = ("sparseflow", "torch", "numpy", "triton", "spikingjelly")


def describe() -> dict[str, str]:
    """Return processor, cores, memory, system, versions and commit by name.

    What cannot be found out is left out, so that every line on the page is true.
    """
    found = {
        "Processor": _processor(),
        "Instruction sets": _instruction_sets(),
        "Cores": _cores(),
        "Memory": _memory(),
        "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found |= _gpu()
    found["Commit"] = _commit()
    return {name: value for name, value in found.items() if value}


@cache
def _cpu_lines() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _processor() -> str:
    return _cpu_lines().get("model name", "") or platform.processor()


def _instruction_sets() -> str:
    flags = set(_cpu_lines().get("flags", "").split())
    shown = (
        ("avx2", "AVX2"),
        ("avx512f", "AVX-512"),
        ("avx512_vnni", "VNNI"),
        ("avx512_vpopcntdq", "VPOPCNT"),
        ("avx512_bf16", "BF16"),
        ("amx_int8", "AMX"),
    )
    return ", ".join(name for flag, name in shown if flag in flags)


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} usable of {os.cpu_count()}"


def _gpu() -> dict[str, str]:
    """Return the device, its CUDA and its driver, where the program uses one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "GPU": f"{device.name}, {device.multi_processor_count} multiprocessors, {device.total_memory / 2**30:.0f} GiB",
        "CUDA": str(torch.version.cuda or ""),
        "cuDNN": str(torch.backends.cudnn.version() or ""),
        "Driver": _driver(),
    }


def _driver() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return next((word for word in text.split() if word[:1].isdigit() and "." in word), "")


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (ValueError, OSError, AttributeError):
        return ""


def _commit() -> str:
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
