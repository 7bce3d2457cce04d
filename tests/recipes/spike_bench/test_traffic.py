import pytest
import torch

from sparseflow.recipes.spike_bench.traffic import MemorySpeed, memory_speed


def test_speeds_are_those_of_a_memory():
    speed = memory_speed(floats=1 << 20, repeats=3)
    assert speed.threads == torch.get_num_threads()
    assert 1e8 < speed.read < 1e13
    assert 1e8 < speed.write < 1e13


def test_times_add_up():
    speed = MemorySpeed(threads=2, read=4e9, write=2e9)
    assert speed.seconds(4, 0) == pytest.approx(1e-9)
    assert speed.seconds(4, 4) == pytest.approx(3e-9)
    assert speed.to_dict() == {"threads": 2, "read": 4e9, "write": 2e9}
