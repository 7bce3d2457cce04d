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


def test_every_checkpoint_that_a_command_names_is_there():
    named = [word.partition("=")[2] for b in BENCHMARKS for word in b.command if word.startswith("--checkpoint=")]
    assert len(named) == 3
    assert all((ROOT / name).exists() for name in named if "/" in name)
