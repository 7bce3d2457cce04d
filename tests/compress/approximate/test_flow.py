"""Tags against those of a scalar map, behind pools, reshapes, concatenations and sums."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparseflow.compress.approximate.flow import ESCAPE, follow
from sparseflow.compress.quantize import find_sites, prepare_qat, to_integer
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import MODES, tables
from sparseflow.trace import capture
from tests.quantized_nets import NETS, net

CODES = [5, 9, 16, 30, 60]


def made(name):
    model, x = net(name)
    sites = find_sites(capture(model, x)).sites
    return to_integer(prepare_qat(model, x)), sites, x


def tag(q, row):
    t1, _, t2, _, tmax = row
    return sum(q > t for t in (t1, t2, tmax))


@pytest.mark.parametrize("name", sorted(NETS))
@pytest.mark.parametrize("mode", MODES)
def test_layers_read_the_codes_of_the_changed_network(name, mode):
    integer, sites, x = made(name)
    codes = torch.tensor([CODES] * len(sites))
    inputs = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, path=path: inputs.update({path: args[0]}))
        for path, layer in integer.layers.items()
    ]
    integer(x, tables={s.node: tables(c, mode)[None] for s, c in zip(sites, codes, strict=True)})
    for hook in hooks:
        hook.remove()
    readings = follow(integer, sites, codes, x, mode=mode)
    assert {r.layer for r in readings} == set(integer.layers)
    for r in readings:
        assert torch.equal(r.codes, inputs[r.layer])
        assert r.tags.shape == r.codes.shape


def test_tags_behind_a_pool_are_those_of_the_pooled_codes():
    integer, sites, x = made("lenet")
    codes = torch.tensor([CODES] * len(sites))
    readings = {r.layer: r for r in follow(integer, sites, codes, x)}
    assert readings["conv1"].sites == ()
    assert bool((readings["conv1"].tags == ESCAPE).all())
    assert [readings[n].sites for n in ("conv2", "fc1", "fc2")] == [("conv1",), ("conv2",), ("fc1",)]
    plain = F.max_pool2d(integer.codes(x)[sites[0].node], 2)
    want = torch.tensor([tag(int(q), CODES) for q in plain.flatten()], dtype=torch.uint8).view(plain.shape)
    assert torch.equal(readings["conv2"].tags, want)
    assert int(want.max()) == ESCAPE
    values = torch.tensor([0.0, CODES[1], CODES[3]])
    small = want < ESCAPE
    assert torch.equal(readings["conv2"].codes[small], values[want[small].long()])
    assert bool((readings["conv2"].codes[~small] > CODES[4]).all())


def test_a_concatenation_joins_tags_and_an_average_ends_them():
    integer, sites, x = made("fire")
    readings = {r.layer: r for r in follow(integer, sites, torch.tensor([CODES] * len(sites)), x)}
    assert readings["last"].sites == ("one", "three")
    assert readings["one"].source == readings["three"].source
    made_by = integer.codes(x)
    squeezed = tables(torch.tensor(CODES))[made_by["relu"].long()].float()
    parts = []
    for branch, point in (("one", "relu_1"), ("three", "relu_2")):
        assert made_by[point].shape[1] == 6
        parts.append(integer.layers[branch](squeezed))
    want = torch.cat([sum((p > CODES[t]).to(torch.uint8) for t in (0, 2, 4)) for p in parts], 1)
    assert torch.equal(readings["last"].tags, F.max_pool2d(want.float(), 3, 2, ceil_mode=True).to(torch.uint8))
    integer, sites, x = made("residual")
    readings = {r.layer: r for r in follow(integer, sites, torch.tensor([CODES] * len(sites)), x)}
    assert readings["fc"].sites == ()
    assert readings["layer2.conv1"].sites == readings["layer2.down.0"].sites == ("layer1.relu",)


def test_tags_of_a_join_with_one_part_that_is_no_site():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(6, 2, 1)

        def forward(self, x):
            return self.c(torch.cat([F.relu(self.a(x)), self.b(x)], 1))

    torch.manual_seed(0)
    model, x = Half().eval(), torch.randn(2, 3, 4, 4)
    sites = find_sites(capture(model, x)).sites
    readings = {r.layer: r for r in follow(to_integer(prepare_qat(model, x)), sites, torch.tensor([CODES]), x)}
    tags = readings["c"].tags
    assert bool((tags[:, 4:] == ESCAPE).all())
    assert int(tags[:, :4].min()) == 0


def test_without_codes_everything_is_carried_whole():
    integer, sites, x = made("chain")
    for r in follow(integer, sites, None, x):
        assert r.sites == ()
        assert bool((r.tags == ESCAPE).all())


def test_codes_that_do_not_fit_are_refused():
    integer, sites, x = made("chain")
    with pytest.raises(ConfigError, match=r"for 3 sites; expected \[L, 5\]"):
        follow(integer, sites, torch.tensor([CODES]), x)
    with pytest.raises(ConfigError, match="out of order"):
        follow(integer, sites, torch.tensor([[9, 1, 2, 3, 4]] * 3), x)
