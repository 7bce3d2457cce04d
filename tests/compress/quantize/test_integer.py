"""A whole network on codes: near its fake-quantised form, the same for candidates together and alone, without state."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from sparseflow.compress.quantize.integer import IntegerNet, to_integer
from sparseflow.compress.quantize.qat import QuantLayer, freeze_bn, freeze_observers, prepare_qat, quantizers
from sparseflow.compress.quantize.sites import find_sites
from sparseflow.compress.quantize.spec import QuantConfig
from sparseflow.errors import ConfigError, DataError
from sparseflow.nn import models
from sparseflow.ops.triseg import tables
from sparseflow.trace import capture
from tests.quantized_nets import NETS, net


def _pair(name: str) -> tuple[nn.Module, IntegerNet, Tensor]:
    model, x = net(name, batch=16)
    qat = prepare_qat(model, x)
    return qat, to_integer(qat), x


def _qat_codes(qat: nn.Module, x: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, q in quantizers(qat).items():
        q.edit = lambda codes, name=name: found.setdefault(name, codes)
    qat(x)
    for q in quantizers(qat).values():
        q.edit = None
    return found


@pytest.mark.parametrize("name", list(NETS))
def test_codes_equal_those_of_the_trained_form(name: str) -> None:
    qat, made, x = _pair(name)
    x = torch.randn_like(x)
    want, got = _qat_codes(qat, x), made.codes(x)
    assert list(got) == list(made.points)
    assert got.keys() == want.keys()
    for point in got:
        difference = (got[point] - want[point]).abs()
        assert difference.max() <= 1, point
        assert (difference == 0).float().mean() >= 0.999, point
        assert got[point].equal(got[point].round())
        assert got[point].min() >= 0
        assert got[point].max() <= 127
        assert tuple(got[point].shape) == made.points[point].shape
    logits, expected = made(x), qat(x)
    assert (logits - expected).abs().max() <= 0.01 * expected.abs().max()


@pytest.mark.parametrize("config", [QuantConfig(activation_max=255, weight_max=7), QuantConfig(activation_max=15)])
def test_other_numbers_of_codes(config: QuantConfig) -> None:
    model, x = net("residual")
    qat = prepare_qat(model, x, config)
    made, want = to_integer(qat), _qat_codes(qat, x)
    for point, codes in made.codes(x).items():
        assert (codes != want[point]).float().mean() <= 1e-3, point
        assert codes.max() <= config.activation_max
    assert made.codes(x)["x"].max() == config.activation_max
    assert max(float(layer.weight.abs().max()) for layer in made.layers.values()) == config.weight_max


def test_codes_are_equal_after_training_too() -> None:
    model, x = net("residual", batch=16)
    qat = prepare_qat(model, x).train()
    optimizer = torch.optim.SGD(qat.parameters(), 0.05, momentum=0.9)
    for step in range(8):
        if step == 5:
            freeze_observers(qat)
            freeze_bn(qat)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(qat(x + 0.1 * torch.randn_like(x)), torch.arange(16) % 10).backward()
        optimizer.step()
    made = to_integer(qat.eval())
    want, got = _qat_codes(qat, x), made.codes(x)
    for point in got:
        difference = (got[point] - want[point]).abs()
        assert difference.max() <= 1, point
        assert (difference == 0).float().mean() >= 0.999, point
    assert made(x).argmax(1).equal(qat(x).argmax(1))


@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.parametrize("bias", ["float32", "int32"])
def test_equals_its_reference_in_float64(name: str, bias: str) -> None:
    model, x = net(name)
    made = to_integer(prepare_qat(model, x), bias=bias)
    assert made.reference()(x).equal(made(x))
    assert all(layer.sums_dtype == torch.float32 for layer in made.layers.values())


@pytest.mark.parametrize("name", list(NETS))
def test_candidates_together_equal_candidates_alone(name: str) -> None:
    model, x = net(name)
    made = to_integer(prepare_qat(model, x))
    sites = find_sites(capture(model, x))
    assert len(sites)
    params = torch.tensor([[7, 14, 21, 28, 35], [2, 4, 9, 20, 127], [10, 30, 40, 60, 90]])
    wanted = {site.node: tables(params.roll(n, 0)) for n, site in enumerate(sites)}
    together = made(x, tables=wanted)
    assert together.shape == (3 * len(x), 10)
    alone = [made(x, tables={name: t[k : k + 1] for name, t in wanted.items()}) for k in range(3)]
    assert together.equal(torch.cat(alone))
    assert not alone[0].equal(made(x))
    for name, t in wanted.items():
        alone = [made(x, tables={name: t[k : k + 1]}) for k in range(3)]
        assert made(x, tables={name: t}).equal(torch.cat(alone))


def test_every_site_is_a_point_that_starts_at_zero() -> None:
    for name in NETS:
        model, x = net(name)
        made = to_integer(prepare_qat(model, x))
        for site in find_sites(capture(model, x)):
            point = made.point(site.node)
            assert point.rectified
            assert point.spec.zero_point == 0
            assert point.layer == site.layer


@pytest.mark.parametrize("name", models.names("convnets"))
def test_the_zoo_runs_unmodified(name: str) -> None:
    torch.manual_seed(0)
    model, x = models.build(name, width=0.125).eval(), torch.randn(2, 3, 32, 32)
    qat = prepare_qat(model, x)
    made = to_integer(qat)
    logits, want = made(x), qat(x)
    assert (logits - want).abs().max() <= 0.1 * want.abs().max()
    sites = find_sites(capture(model, x))
    table = tables(torch.tensor([[7, 14, 21, 28, 35], [2, 4, 6, 8, 10]]))
    assert made(x, tables={site.node: table for site in sites}).shape == (4, 10)
    assert made.reference()(x).equal(logits)


def test_an_identity_table_changes_nothing() -> None:
    _, made, x = _pair("residual")
    same = torch.arange(256, dtype=torch.uint8).repeat(2, 1)
    assert made(x, tables={"relu": same, "layer1_relu_1": same}).equal(torch.cat([made(x)] * 2))


def test_edits_come_before_tables() -> None:
    _, made, x = _pair("lenet")
    table = torch.arange(256).clamp(max=3).to(torch.uint8).view(1, -1)
    both = made(x, edits={"relu": lambda c: c + 1}, tables={"relu": table})
    assert both.equal(made(x, edits={"relu": lambda c: (c + 1).clamp(max=3)}))


def test_has_no_mode_no_gradient_and_no_memory() -> None:
    _, made, x = _pair("chain")
    before = {k: v.clone() for k, v in made.state_dict().items()}
    first = made(x)
    assert not made.train().training
    assert made(x).equal(first)
    assert made(x[:1]).equal(first[:1])
    assert not made(x.requires_grad_()).requires_grad
    assert all(torch.equal(before[k], v) for k, v in made.state_dict().items())
    assert made(x[:0]).shape == (0, 10)


def test_the_trained_model_is_left_alone() -> None:
    model, x = net("residual")
    qat = prepare_qat(model, x).train()
    before = {k: v.clone() for k, v in qat.state_dict().items()}
    to_integer(qat)(x)
    assert qat.training
    assert all(torch.equal(before[k], v) for k, v in qat.state_dict().items())


def test_sum_errors_show_a_layer_that_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    _, made, x = _pair("residual")
    errors = made.sum_errors(x)
    assert errors.keys() == made.layers.keys()
    assert set(errors.values()) == {0.0}
    layer = made.layers["layer1.conv2"]
    run = layer.run
    monkeypatch.setattr(layer, "run", lambda a, w: run(a, w) + (a.dtype == torch.float32))
    assert {n for n, e in made.sum_errors(x).items() if e} == {"layer1.conv2"}


@pytest.mark.parametrize("name", list(NETS))
def test_a_trained_model_comes_back_from_a_file(name: str) -> None:
    qat, made, x = _pair(name)
    loaded = pickle.loads(pickle.dumps(qat))
    assert loaded(x).equal(qat(x))
    assert to_integer(loaded)(x).equal(made(x))


@pytest.mark.parametrize("name", list(NETS))
def test_comes_back_from_a_file(name: str) -> None:
    _, made, x = _pair(name)
    loaded = pickle.loads(pickle.dumps(made))
    assert loaded.points == made.points
    table = torch.arange(256).clamp(max=9).to(torch.uint8).repeat(2, 1)
    changed = {p: table for p, point in made.points.items() if point.rectified}
    assert loaded(x).equal(made(x))
    assert loaded(x, tables=changed).equal(made(x, tables=changed))


def test_state_and_copies() -> None:
    model, x = net("chain")
    made = to_integer(prepare_qat(model, x))
    assert copy.deepcopy(made)(x).equal(made(x))
    names = set(made.layers)
    assert names == {"features.0", "features.4", "head.2", "head.4"}
    qat = prepare_qat(model, x)
    assert all(isinstance(qat.get_submodule(n), QuantLayer) for n in names)


def test_mistakes_are_named() -> None:
    _, made, x = _pair("lenet")
    table = torch.zeros(2, 256, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="no point 'relu_9'; did you mean relu"):
        made(x, tables={"relu_9": table})
    with pytest.raises(ConfigError, match="different K: relu: 2, relu_1: 1"):
        made(x, tables={"relu": table, "relu_1": table[:1]})
    model, x = net("lenet")
    qat = prepare_qat(model, x)
    quantizers(qat)["relu_1"].seen.fill_(False)
    with pytest.raises(DataError, match="relu_1 has no range"):
        to_integer(qat)
