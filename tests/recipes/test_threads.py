"""Threads of a measurement are those asked for, and those of before come back, after an error too."""

import pytest
import torch

from sparseflow.recipes.threads import with_threads


@pytest.mark.parametrize("count", [1, 2])
def test_the_count_holds_inside_alone(count):
    before = torch.get_num_threads()
    with with_threads(count):
        assert torch.get_num_threads() == count
        assert not torch._inductor.config.fx_graph_cache
    assert torch.get_num_threads() == before


def test_an_error_leaves_nothing_changed():
    before = torch.get_num_threads(), torch._inductor.config.fx_graph_cache
    with pytest.raises(ValueError, match="stop"), with_threads(3):
        raise ValueError("stop")
    assert (torch.get_num_threads(), torch._inductor.config.fx_graph_cache) == before
