"""What can be benchmarked: a name, the tests that must be green first, and the command."""

import sys
from dataclasses import dataclass

__all__ = ["BENCHMARKS", "Benchmark"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One entry.

    Args:
        name: what `make bench OP=...` takes.
        gate: test paths that must pass before a number is taken.
        command: the command, without `--json` and without the output file.
        result: file under `benchmarks/results/`.
        needs: what the machine must have, in words.
    """

    name: str
    gate: tuple[str, ...]
    command: tuple[str, ...]
    result: str
    needs: str = ""


_SPIKE_GATE = ("tests/ops/conv2d_spike", "tests/ops/lif", "tests/ops/linear_spike", "tests/faults")
_SEEDS = (
    "cmamba_etth1_96",
    "benchmarks/checkpoints/cmamba_etth1_96_seed2022.safetensors",
    "benchmarks/checkpoints/cmamba_etth1_96_seed2023.safetensors",
)

BENCHMARKS = (
    Benchmark(
        name="spike-cpu",
        gate=_SPIKE_GATE,
        command=("sparseflow", "spike", "bench", "--target", "cpu"),
        result="spike_cpu.json",
    ),
    Benchmark(
        name="triseg",
        gate=("tests/ops/triseg", "tests/compress/approximate", "tests/search", "tests/recipes/triseg"),
        command=("sparseflow", "triseg", "bench"),
        result="triseg_cpu.json",
        needs="cmaes and optuna",
    ),
    Benchmark(
        name="forecast",
        gate=("tests/ops/selective_scan", "tests/nn/models/cmamba", "tests/recipes/forecast/bench"),
        command=("sparseflow", "forecast", "bench", "--device", "cpu"),
        result="forecast_cpu.json",
        needs="mambapy 1.2.0",
    ),
    Benchmark(
        name="forecast-gpu",
        gate=("tests/ops/selective_scan", "tests/recipes/forecast/bench"),
        command=("sparseflow", "forecast", "bench", "--device", "cuda"),
        result="forecast_bench_h200.json",
        needs="an H200 and mambapy 1.2.0",
    ),
    Benchmark(
        name="forecast-seeds",
        gate=("tests/recipes/forecast/test_evaluate.py", "tests/recipes/forecast/test_score.py", "tests/data"),
        command=("sparseflow", "forecast", "eval", *(f"--checkpoint={name}" for name in _SEEDS)),
        result="forecast_seeds_cpu.json",
    ),
    Benchmark(
        name="forecast-checks",
        gate=("tests/recipes/forecast", "tests/nn/models/cmamba"),
        command=("sparseflow", "forecast", "check"),
        result="forecast_checks.json",
    ),
    Benchmark(
        name="forecast-pack",
        gate=(
            "tests/ops/fixed_point",
            "tests/export/fpga",
            "tests/faults/test_integers.py",
            "tests/examples/test_read_pack.py",
        ),
        command=("sparseflow", "forecast", "prove", "--reader", "examples/read_pack.py"),
        result="forecast_pack_cpu.json",
        needs="Verilator and yosys; other series than ETTh1 with --checkpoint and --data",
    ),
    Benchmark(
        name="bad-input",
        gate=("tests/faults", "tests/cli"),
        command=(sys.executable, "-m", "benchmarks.bad_input"),
        result="bad_input.json",
    ),
    Benchmark(
        name="spike-coverage",
        gate=("tests/trace", "tests/compress"),
        command=(sys.executable, "-m", "benchmarks.coverage"),
        result="spike_coverage_cpu.json",
        needs="spikingjelly 2.0.0",
    ),
)
