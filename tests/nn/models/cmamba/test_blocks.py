import pytest
import torch
from torch import nn

from sparseflow.nn.models.cmamba import ModelArgs
from sparseflow.nn.models.cmamba.blocks import GDDMLP, CMambaBlock, MambaBlock, first_a_log, first_steps_
from sparseflow.nn.models.cmamba.primitives import Float

SMALL = ModelArgs(d_model=8, seq_len=24, patch_len=8, stride=4, d_state=3, num_channels=3, reduction_ratio=1)


def test_first_decays_are_the_whole_numbers() -> None:
    torch.testing.assert_close(first_a_log(2, 16).exp(), torch.arange(1.0, 17).expand(2, 16))


@pytest.mark.parametrize("rank", [1, 8, 32])
def test_first_steps(rank: int) -> None:
    layer = nn.Linear(rank, 4096)
    first_steps_(layer, rank)
    assert float(layer.weight.detach().abs().max()) <= rank**-0.5
    assert float(layer.weight.detach().abs().max()) > 0.9 * rank**-0.5
    steps = nn.functional.softplus(layer.bias.detach().double())
    assert 0.99e-3 <= float(steps.min()) < 1.2e-3
    assert 0.09 < float(steps.max()) <= 0.1001
    # Log-uniform: half of the steps lie below the geometric mean, 0.01.
    assert 0.45 < float((steps < 0.01).float().mean()) < 0.55


@pytest.mark.parametrize("kind", [CMambaBlock, MambaBlock])
def test_a_block_adds_its_input_once(kind: type[nn.Module]) -> None:
    """With a silent mixer the output is the input, and not twice it: the earlier project's block added it again."""
    block = kind(SMALL, Float())
    with torch.no_grad():
        block.mixer.out_proj.weight.zero_()
    if kind is CMambaBlock:
        block.GDDMLP = nn.Identity()
    x = torch.randn(6, 5, 8)
    assert torch.equal(block(x), x)


def test_gates_mix_series_and_leave_samples_alone() -> None:
    gdd = GDDMLP(SMALL, Float())
    y = torch.randn(6, 5, 8)
    changed = y.clone()
    changed[1] += 1
    same = (gdd(changed) == gdd(y)).flatten(1).all(1)
    assert same.tolist() == [False, False, False, True, True, True]


def test_gates_keep_patches_apart() -> None:
    gdd = GDDMLP(SMALL, Float())
    y = torch.randn(3, 5, 8)
    changed = y.clone()
    changed[:, 2] += 1
    same = (gdd(changed) == gdd(y)).all(2).all(0)
    assert same.tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("kind", [CMambaBlock, MambaBlock])
def test_the_mixer_sees_no_later_patch(kind: type[nn.Module]) -> None:
    mixer = kind(SMALL, Float()).mixer
    x = torch.randn(2, 5, 8)
    later = x.clone()
    later[:, 3:] += 1
    torch.testing.assert_close(mixer(later)[:, :3], mixer(x)[:, :3])
