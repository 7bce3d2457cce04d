"""This machine as a target: what it has, and what it was seen to reach."""

import json
import os
import platform
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cpuinfo
import psutil
import torch

from sparseflow.cost import measure
from sparseflow.errors import ConfigError
from sparseflow.ir import Target
from sparseflow.ir._json import digest
from sparseflow.ir.env import cache_folder

__all__ = ["describe_host"]

SCHEMA = 1
_DAY_S = 24 * 3600.0
_FEATURES = (
    "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx_vnni", "avx512_vpopcntdq",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "sve", "asimddp",
)  # fmt: skip
_SIDE = 1024
_COPIED_BYTES = 128 * 2**20


def describe_host(*, name: str = "cpu", folder: Path | None = None, max_age_s: float = _DAY_S) -> Target:
    """Describe the machine that this process runs on.

    Cores are those that torch uses now; features come from the processor;
    memory from the operating system. Peak rates and bandwidth are the best of
    a short measurement (two seconds): a float32 matrix product of side
    1024 (and one in bfloat16 where the processor has it), a copy of 128 MiB,
    and one tiny addition for the cost of a call. The description is kept in a
    file for `max_age_s`, apart for each number of threads.

    Args:
        name: name of the target.
        folder: where to keep the file; None takes the user's cache folder. If
            it cannot be written the description is simply made again.
        max_age_s: an older description is made anew; 0 always measures.

    Raises:
        ConfigError: `max_age_s` is negative or NaN.
    """
    if not max_age_s >= 0:
        raise ConfigError(f"max_age_s is {max_age_s}; expected zero or more seconds")
    threads = torch.get_num_threads()
    identity = digest([SCHEMA, name, platform.node(), platform.processor(), os.cpu_count(), threads, torch.__version__])
    file = (cache_folder() if folder is None else folder) / f"host-{identity}.json"
    kept = _read(file, max_age_s)
    if kept is None:
        kept = _describe(name, threads)
        _write(file, kept)
    return kept


def _describe(name: str, threads: int) -> Target:
    info = cpuinfo.get_cpu_info()
    flags = set(info.get("flags", ()))
    features = tuple(f for f in _FEATURES if f in flags)
    brand = str(info.get("brand_raw") or platform.processor() or platform.machine())
    how = f"measured on this machine, {threads} threads, torch {torch.__version__}"
    peaks = {"float32": _product_rate(torch.float32)}
    if {"amx_bf16", "avx512_bf16"} & set(features):
        peaks["bfloat16"] = _product_rate(torch.bfloat16)
    sources = {f"peak_flops_per_s.{p}": f"{how}: product of side {_SIDE}" for p in peaks}
    return Target(
        name=name,
        kind="cpu",
        peak_flops_per_s=peaks,
        bw_bytes_per_s=_copy_rate(),
        memory_bytes=float(psutil.virtual_memory().total),
        cores=threads,
        launch_s=_call_s(),
        features=features,
        sources={
            **sources,
            "name": f"{brand}, {threads} threads",
            "bw_bytes_per_s": f"{how}: copy of 128 MiB, read plus write; a larger cache counts as memory",
            "memory_bytes": "operating system, by psutil",
            "cores": "threads that torch uses",
            "launch_s": f"{how}: addition of one element",
            "features": "processor flags, by py-cpuinfo",
        },
    )


def _product_rate(dtype: torch.dtype) -> float:
    a, b = (torch.ones(_SIDE, _SIDE, dtype=dtype) for _ in range(2))
    out = torch.empty(_SIDE, _SIDE, dtype=dtype)
    seconds = measure({"product": lambda: torch.mm(a, b, out=out)}, warmup=2, repeats=100, budget_s=0.5)[
        "product"
    ].min_s
    return 2.0 * _SIDE**3 / seconds


def _copy_rate() -> float:
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8)
    copy = torch.empty_like(source)
    seconds = measure({"copy": lambda: copy.copy_(source)}, warmup=1, repeats=20, budget_s=0.5)["copy"].min_s
    return 2.0 * _COPIED_BYTES / seconds


def _call_s() -> float:
    a = torch.ones(1)
    return measure({"add": lambda: a + a}, repeats=100, budget_s=0.1)["add"].min_s


def _read(file: Path, max_age_s: float) -> Target | None:
    """Return a kept description that is young enough and whole, else None."""
    try:
        age_s = time.time() - file.stat().st_mtime
        if age_s < 0 or age_s >= max_age_s:
            return None
        body: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        body["features"] = tuple(body["features"])
        return Target(**body)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(file: Path, target: Target) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(asdict(target), stream, indent=2, allow_nan=False)
        os.replace(draft, file)
    except OSError:
        # Keeping the description only saves a second next time.
        return
