from pathlib import Path

from benchmarks.registry import BENCHMARKS

ROOT = Path(__file__).parents[2]


def test_names_and_results_are_distinct():
    assert len({b.name for b in BENCHMARKS}) == len(BENCHMARKS)
    assert len({b.result for b in BENCHMARKS}) == len(BENCHMARKS)


def test_every_gate_is_a_test_that_exists():
    for benchmark in BENCHMARKS:
        assert benchmark.gate
        for path in benchmark.gate:
            assert (ROOT / path).exists(), f"{benchmark.name}: {path}"
