"""A dense rival gives what its model gives, in another type, and follows its weights."""

import pytest
import torch

from sparseflow.compress.sparsify.rivals import DenseForm
from tests.spiking_nets import chain


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runs_from_rest_and_follows_the_weights(dtype: torch.dtype) -> None:
    model, x = chain()
    form = DenseForm(model, dtype)
    want = model(x)
    for _ in range(2):
        made = form(x)
        assert made.dtype == torch.float32
        if dtype == torch.float32:
            torch.testing.assert_close(made, want)
    model.get_submodule("head.3").weight.mul_(2.0)
    model.get_submodule("head.3").bias.mul_(2.0)
    torch.testing.assert_close(form(x), 2 * made)
    assert not list(form.parameters())
