import copy

import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.hardware.mapping.rewire import (
    group_units,
    inverse,
    permute_heads_,
    permute_hidden_,
    split_attention,
    split_mlp,
)
from sparseflow.nn.models.video_vit import VideoViT

TOLERANCE = 1e-5


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VideoViT(
        img_size=32, num_frames=2, num_classes=5, embed_dim=24, depth=2, num_heads=6, mlp_ratio=3, patch_size=16
    ).eval()


def test_units_are_shared_out_evenly_and_sorted_by_where_they_go():
    perm, counts = group_units([5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], 2)
    assert sorted(perm) == list(range(8))
    groups = [perm[: counts[0]], perm[counts[0] :]]
    assert all(g == sorted(g) for g in groups)
    loads = [5.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert [sum(loads[u] for u in g) for g in groups] == [5.0, 5.0]
    # Pruned heads fill up the group that has fewer.
    assert {6, 7} <= set(groups[0])


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_every_group_has_a_unit(groups):
    _, counts = group_units([0.0] * 6, groups)
    assert min(counts) >= 1
    assert sum(counts) == 6


def test_inverse_undoes():
    perm = torch.randperm(17).tolist()
    assert [perm[i] for i in inverse(perm)] == list(range(17))


@torch.no_grad()
def test_a_network_in_another_order_computes_the_same(model):
    x = torch.randn(2, 2, 3, 32, 32)
    before, old = model(x), copy.deepcopy(model.state_dict())
    for block in model.blocks:
        permute_heads_(block.attn, torch.randperm(6).tolist())
        permute_hidden_(block.mlp.fc1, block.mlp.fc2, torch.randperm(72).tolist())
    assert (model(x) - before).abs().max() <= TOLERANCE
    assert any(not torch.equal(t, old[k]) for k, t in model.state_dict().items())


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_sum_to_the_whole(model, groups):
    block, x = model.blocks[0], torch.randn(3, 7, 24)
    heads, counts = group_units(torch.rand(6).tolist(), groups)
    hidden, sizes = group_units(torch.rand(72).tolist(), groups)
    parts, columns = split_attention(block.attn, heads, counts), split_mlp(block.mlp, hidden, sizes)
    assert [p.heads for p in parts] == counts
    assert (sum(p(x)[0] for p in parts) - block.attn(x)[0]).abs().max() <= TOLERANCE
    assert (sum(p(x) for p in columns) - block.mlp(x)).abs().max() <= TOLERANCE


@torch.no_grad()
def test_channels_change_places_between_convolutions_and_their_norm():
    torch.manual_seed(0)
    first, norm, second = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1, bias=False)
    net = nn.Sequential(first, norm, nn.ReLU(), second)
    net(torch.randn(4, 3, 9, 9))  # gives the norm statistics that differ by channel
    net.eval()
    x = torch.randn(2, 3, 9, 9)
    before = net(x)
    permute_hidden_(first, second, torch.randperm(8).tolist(), norm)
    assert (net(x) - before).abs().max() <= TOLERANCE


def test_faulty_permutations_are_named(model):
    mlp, attn = model.blocks[0].mlp, model.blocks[0].attn
    with pytest.raises(ConfigError, match="no permutation"):
        permute_hidden_(mlp.fc1, mlp.fc2, [0] * 72)
    with pytest.raises(ConfigError, match="does not fit layers"):
        permute_hidden_(mlp.fc1, mlp.fc2, [1, 0])
    with pytest.raises(ConfigError, match="does not fit an attention"):
        permute_heads_(attn, [1, 0])
    with pytest.raises(ConfigError, match="do not hold"):
        split_attention(attn, list(range(6)), [3, 2])
    with pytest.raises(ConfigError, match="do not hold"):
        split_mlp(mlp, list(range(72)), [72, 0])
    with pytest.raises(ConfigError, match="do not make"):
        group_units([1.0], 2)
    with pytest.raises(ConfigError, match="0 or more"):
        group_units([-1.0, 1.0], 2)
    grouped = nn.Conv2d(8, 8, 3, groups=8)
    with pytest.raises(ConfigError, match="grouped"):
        permute_hidden_(grouped, grouped, list(range(8)))
