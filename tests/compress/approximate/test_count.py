"""Counts against loops over every pair of a weight and an input, and the identity that makes them right."""

import itertools

import pytest
import torch
from torch import nn

from sparseflow.compress.approximate.count import code_shares, cost_of, pair_counts, stored_bits
from sparseflow.compress.approximate.flow import TOP, follow
from sparseflow.compress.quantize import find_sites, prepare_qat, to_integer
from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.triseg import MODES
from sparseflow.ops.triseg.reference import tri_segment
from sparseflow.trace import capture
from tests.quantized_nets import NETS, net

CODES = [5, 9, 16, 30, 60]
CONVS = [
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (1, 3), "padding": (0, 2), "dilation": 2},
    {"kernel_size": 3, "padding": 2, "groups": 2},
    {"kernel_size": 1, "groups": 4},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
]


def made(name):
    model, x = net(name)
    sites = find_sites(capture(model, x)).sites
    return to_integer(prepare_qat(model, x)), sites, x


def layer_of(module, x):
    (layer,) = to_integer(prepare_qat(nn.Sequential(module).eval(), x)).layers.values()
    return layer


def loops(layer, shape, mask):
    """Pairs under a mask, by walking over every output and every place of its window."""
    if layer.weight.dim() == 2:
        return len(layer.weight) * int(mask.sum())
    if layer.call["pad"]:
        mask = torch.nn.functional.pad(mask.float(), layer.call["pad"], mode=layer.call["pad_mode"]) > 0
    two = {n: v if isinstance(v, tuple) else (v, v) for n, v in layer.call.items() if n not in ("pad", "pad_mode")}
    (sh, sw), (ph, pw), (dh, dw), groups = two["stride"], two["padding"], two["dilation"], layer.call["groups"]
    out_channels, per_group, kh, kw = layer.weight.shape
    n, channels, height, width = mask.shape
    rows = (height + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    columns = (width + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    count = 0
    for image, channel, row, column, i, j in itertools.product(
        range(n), range(channels), range(rows), range(columns), range(kh), range(kw)
    ):
        y, x = row * sh - ph + i * dh, column * sw - pw + j * dw
        if 0 <= y < height and 0 <= x < width and bool(mask[image, channel, y, x]):
            count += out_channels // groups
    assert channels == per_group * groups
    return count


@pytest.mark.parametrize("kwargs", CONVS)
def test_pairs_of_a_convolution_are_those_of_the_loops(kwargs):
    torch.manual_seed(0)
    x = torch.rand(2, 4, 5, 6)
    layer = layer_of(nn.Conv2d(4, 8, **kwargs), x)
    masks = [torch.rand(x.shape) < p for p in (0.0, 0.3, 1.0)]
    assert pair_counts(layer, masks) == [loops(layer, x.shape, m) for m in masks]


def test_pairs_of_a_linear_layer():
    layer = layer_of(nn.Linear(7, 3), torch.rand(2, 7))
    mask = torch.tensor([[True] * 2 + [False] * 5, [False] * 7])
    assert pair_counts(layer, [mask, ~mask]) == [6, 36]


@pytest.mark.parametrize("mode", MODES)
def test_the_sums_are_those_of_two_products_and_the_escapes(mode):
    """Σ w·f(x) = Σ_v v·Σ_{f = v} w + Σ_{x > tmax} w·x, to the bit, and as many products as counted."""
    integer, sites, x = made("chain")
    codes = torch.tensor([CODES] * len(sites))
    cost = cost_of(integer, sites, codes, [x], mode=mode)
    for reading, reader in zip(follow(integer, sites, codes, x, mode=mode), cost.readers, strict=True):
        if not reading.sites:
            continue
        layer = reading.module
        values = {1: CODES[1], 2: CODES[3]} | ({TOP: CODES[4]} if mode == "saturate" else {})
        parts = [v * layer.run((reading.tags == t).float(), layer.weight) for t, v in values.items()]
        escaped = torch.where(reading.tags == 3, reading.codes, 0.0)
        total = sum(parts) + layer.run(escaped, layer.weight)
        assert torch.equal(total, layer.sums(reading.codes).float())
        assert reader.outputs == total.numel()
        assert reader.multiplies == loops(layer, None, escaped > 0) + len(values) * total.numel()
        assert (mode != "pass") == (reader.pairs_escaped == 0)
        assert mode != "saturate" or bool((reading.tags == TOP).any())


@pytest.mark.parametrize("name", sorted(NETS))
def test_every_count_of_a_network_is_that_of_the_loops(name):
    integer, sites, x = made(name)
    x = x[:1]
    codes = torch.tensor([CODES] * len(sites))
    cost = cost_of(integer, sites, codes, [x])
    exact = follow(integer, sites, None, x)
    for before, after, r in zip(exact, follow(integer, sites, codes, x), cost.readers, strict=True):
        zero = after.module.source.zero_point
        assert r.pairs == loops(after.module, None, torch.ones_like(after.codes) > 0)
        assert r.pairs_exact_nonzero == loops(after.module, None, before.codes != zero)
        assert r.pairs_nonzero == loops(after.module, None, after.codes != zero)
        assert r.pairs_escaped == loops(after.module, None, (after.codes != zero) & (after.tags == 3))
    stored = {s.name: s for s in cost.stored}
    assert {r.source for r in cost.readers} == set(stored)
    for r in follow(integer, sites, codes, x):
        assert stored[r.source].elements == tuple(int((r.tags == t).sum()) for t in range(4))


def test_batches_add_up_and_order_does_not_matter():
    integer, sites, x = made("chain")
    codes = torch.tensor([CODES] * len(sites))
    whole = cost_of(integer, sites, codes, [x])
    assert cost_of(integer, sites, codes, [x[2:], x[:2]]).to_dict() == whole.to_dict()
    assert whole.images == 4
    assert whole.made == 4 * (8 * 8 * 8 + 12 * 4 * 4 + 20)


@pytest.mark.parametrize("name", sorted(NETS))
@pytest.mark.parametrize("mode", MODES)
def test_bits_alone_are_those_of_the_whole_count(name, mode):
    integer, sites, x = made(name)
    codes = torch.tensor([CODES] * len(sites))
    want = cost_of(integer, sites, codes, [x], mode=mode).bits_per_activation
    assert stored_bits(integer, sites, codes, x, mode=mode) == want
    assert 2 <= want < 10
    if name == "chain" and mode != "pass":
        # Of its four inputs the image alone takes 8 bits, and is not counted.
        assert want == 2


def test_no_images_are_refused():
    integer, sites, _ = made("chain")
    with pytest.raises(DataError, match="no images"):
        cost_of(integer, sites, torch.tensor([CODES] * 3), [])


@pytest.mark.parametrize("mode", MODES)
def test_shares_are_those_of_the_scalar_map(mode):
    generator = torch.Generator().manual_seed(1)
    counts = torch.randint(0, 50, (2, 256), generator=generator)
    codes = torch.tensor([[[5, 9, 16, 30, 60], [0, 1, 1, 2, 3]], [[2, 3, 250, 251, 255], [7, 8, 9, 10, 11]]])
    shares = code_shares(counts, codes, mode=mode)
    for k, site in itertools.product(range(2), range(2)):
        row = codes[k, site].tolist()
        want = [0, 0, 0, 0]
        for q in range(256):
            at = sum(q > row[i] for i in (0, 2, 4))
            if at == 3 and mode == "clip":
                assert tri_segment(q, row, mode) == row[3]
                at = 2
            want[at] += int(counts[site, q])
        total = int(counts[site].sum())
        assert shares[k, site].tolist() == [n / total for n in want]


def test_shares_of_a_silent_site_and_of_other_shapes():
    assert code_shares(torch.zeros(1, 256), torch.tensor([[1, 2, 3, 4, 5]])).tolist() == [[1, 0, 0, 0]]
    with pytest.raises(ConfigError, match="does not fit"):
        code_shares(torch.zeros(2, 256), torch.tensor([[1, 2, 3, 4, 5]]))
