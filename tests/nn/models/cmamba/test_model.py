import copy

import numpy as np
import pytest
import torch

from sparseflow.errors import DataError, UnsupportedError
from sparseflow.nn.models.cmamba import CMamba, ModelArgs, build_model
from sparseflow.nn.models.cmamba import model as module
from tests.nn.models.cmamba import plain
from tests.nn.models.cmamba.arrays import Arrays

# 20 seeds; series from 1 (no hidden unit in the channel MLP) to the 321 of Electricity, with the paper's other sizes.
SERIES = (1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 11, 16, 21, 24, 33, 64, 100, 137, 200, 321)
PARITY = 1e-5
SMALL = {"d_model": 8, "seq_len": 24, "patch_len": 8, "stride": 4, "d_state": 3, "num_channels": 3, "n_layer": 2}


def drawn(args: ModelArgs, seed: int) -> tuple[CMamba, torch.Generator]:
    """Return a network in which every weight is random, norms and A_log too, and as large as trained ones are."""
    torch.manual_seed(seed)
    model = build_model(args)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            size = p.std() if p.ndim > 1 and p.numel() > 1 else torch.tensor(0.05)
            p.add_(torch.randn(p.shape, generator=generator) * size)
    return model.eval(), generator


@pytest.mark.parametrize(("seed", "v"), list(enumerate(SERIES)))
def test_parity_with_the_published_equations(seed: int, v: int) -> None:
    args = ModelArgs.paper(v, (96, 192, 336, 720)[seed % 4], n_layer=3 + seed % 2, reduction_ratio=(2, 4)[seed % 2])
    model, generator = drawn(args, seed)
    x = torch.randn(1 + (v < 30), v, 96, generator=generator)
    weights = model.state_dict()
    with torch.no_grad():
        got = model(x)
        assert float((got - plain.official(args, weights, x)).abs().max()) <= PARITY
        exact = plain.official(args, {k: w.double() for k, w in weights.items()}, x.double())
    assert float((got - exact).abs().max()) <= PARITY


@pytest.mark.parametrize("seed", range(4))
def test_the_seed_variant_follows_its_equations(seed: int) -> None:
    args = ModelArgs(variant="seed", n_layer=1 + seed, num_channels=(1, 5, 24, 7)[seed], conv_bias=seed != 1)
    model, generator = drawn(args, seed)
    x = torch.randn(3, args.num_channels, 96, generator=generator)
    with torch.no_grad():
        got = model(x)
    exact = plain.seed(args, {k: w.double() for k, w in model.state_dict().items()}, x.double())
    assert float((got - exact).abs().max()) <= PARITY


@pytest.mark.parametrize("variant", ["official", "seed"])
@pytest.mark.parametrize(
    "odd",
    [
        {}, {"d_model": 7, "expand": 1.5}, {"seq_len": 29}, {"patch_len": 1, "stride": 1}, {"forecast_len": 1},
        {"bias": True, "d_state": 1, "dt_rank": 1}, {"n_layer": 1, "num_channels": 1}, {"stride": 11},
    ],
)  # fmt: skip
def test_odd_sizes(variant: str, odd: dict[str, int]) -> None:
    args = ModelArgs(variant=variant, **(SMALL | odd))
    model, generator = drawn(args, 0)
    x = torch.randn(2, args.num_channels, args.seq_len, generator=generator)
    got = model.double()(x.double())
    assert got.shape == (2, args.num_channels, args.forecast_len)
    torch.testing.assert_close(got, plain.forward(args, model.state_dict(), x.double()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", ["official", "seed"])
def test_another_number_system_shares_the_forward(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's arrays go through the same blocks, without a tensor among the values."""
    args = ModelArgs(variant=variant, **SMALL)
    model, generator = drawn(args, 3)
    monkeypatch.setattr(module, "MODES", {**module.MODES, "arrays": Arrays})
    other = build_model(args, "arrays")
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 24, generator=generator).double()
    got = other(x.numpy())
    assert isinstance(got, np.ndarray)
    torch.testing.assert_close(torch.from_numpy(got), model.double()(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", ["official", "seed"])
def test_gradients_follow_the_equations(variant: str) -> None:
    args = ModelArgs(variant=variant, **SMALL)
    model, generator = drawn(args, 1)
    model.double()
    x = torch.randn(2, 3, 24, generator=generator).double()
    weights = {k: p.detach().clone().requires_grad_() for k, p in model.named_parameters()}
    model(x).square().sum().backward()
    plain.forward(args, weights, x).square().sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, weights[name].grad, rtol=1e-5, atol=1e-5, msg=name)


def test_the_size_of_the_paper() -> None:
    model = build_model(ModelArgs.paper(7))
    assert sum(p.numel() for p in model.parameters()) == 385_292
    layer = "encoder.layers.2."
    assert {k.removeprefix(layer) for k in model.state_dict() if k.startswith(layer)} == {
        "mixer.A_log", "mixer.in_proj.weight", "mixer.in_proj.bias", "mixer.x_proj.weight", "mixer.dt_proj.weight",
        "mixer.dt_proj.bias", "mixer.out_proj.weight", "mixer.out_proj.bias", "norm.weight",
        "GDDMLP.fc_sc.0.weight", "GDDMLP.fc_sc.2.weight", "GDDMLP.fc_sf.0.weight", "GDDMLP.fc_sf.2.weight",
    }  # fmt: skip
    others = {k for k in model.state_dict() if not k.startswith("encoder.layers")}
    assert others == {"patch_embedding.value_embedding.weight", "head.linear.weight", "head.linear.bias"}


def test_the_keys_of_the_first_design() -> None:
    shapes = {k: tuple(w.shape) for k, w in build_model(ModelArgs(variant="seed")).state_dict().items()}
    assert shapes["patch_embedding.weight"] == (128, 24 * 16)
    assert shapes["patch_embedding.bias"] == (128,)
    assert shapes["norm_f.weight"] == (128,)
    assert shapes["output_layer.weight"] == (24 * 96, 128 * 11)
    assert shapes["output_layer.bias"] == (24 * 96,)


def test_a_forecast_keeps_its_length() -> None:
    for variant in ("official", "seed"):
        args = ModelArgs(variant=variant, **(SMALL | {"forecast_len": 90}))
        assert build_model(args)(torch.zeros(1, 3, 24)).shape == (1, 3, 90)


@pytest.mark.parametrize("variant", ["official", "seed"])
def test_an_empty_batch(variant: str) -> None:
    assert build_model(ModelArgs(variant=variant, **SMALL))(torch.zeros(0, 3, 24)).shape == (0, 3, 96)


def test_constant_series_give_finite_forecasts() -> None:
    model = build_model(ModelArgs.paper(3))
    assert bool(model(torch.full((2, 3, 96), 1e6)).isfinite().all())


def test_scale_and_level_of_a_series_pass_through() -> None:
    """Instance norm: of a·x + b the forecast is a times that of x, plus b, at ε far below the deviation."""
    model, generator = drawn(ModelArgs.paper(3), 5)
    x = torch.randn(1, 3, 96, generator=generator).double() * 100
    model.double()
    torch.testing.assert_close(model(x * 3 + 50), model(x) * 3 + 50, rtol=1e-6, atol=1e-6)


def test_dropout_acts_in_training_alone_where_it_is_asked_for() -> None:
    x = torch.randn(2, 3, 24)
    for name in ("dropout", "head_dropout", "forecast_dropout"):
        model = build_model(ModelArgs(**SMALL, **{name: 0.5}))
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))
    model = build_model(ModelArgs(**SMALL))
    assert torch.equal(model(x), model(x))


def test_copies_are_independent() -> None:
    model = build_model(ModelArgs(**SMALL))
    other = copy.deepcopy(model)
    x = torch.randn(1, 3, 24)
    assert torch.equal(model(x), other(x))
    with torch.no_grad():
        other.head.linear.bias.add_(1)
    assert not torch.equal(model(x), other(x))


def test_under_bfloat16_autocast_a_training_step_is_finite() -> None:
    model = build_model(ModelArgs(**SMALL))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 3, 24)).abs().mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("variant", ["official", "seed"])
def test_one_graph_holds_the_whole_forward(variant: str) -> None:
    """No break under torch.compile, with gradients; torch.export keeps the scan as one node for each block."""
    model = build_model(ModelArgs(variant=variant, **(SMALL | {"n_layer": 1})))
    x = torch.randn(2, 3, 24)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    y = compiled(x)
    torch.testing.assert_close(y, model(x))
    y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    exported = torch.export.export(model.eval(), (x,))
    assert sum("selective_scan" in str(n.target) for n in exported.graph.nodes) == 1
    torch.testing.assert_close(exported.module()(x), model(x))


def test_wrong_inputs_are_refused() -> None:
    model = build_model(ModelArgs(**SMALL))
    for shape in ((3, 24), (1, 24, 3), (1, 3, 25), (1, 2, 24)):
        with pytest.raises(DataError, match=r"expected \[B, 3, 24\]"):
            model(torch.zeros(shape))
    with pytest.raises(UnsupportedError, match="fp32"):
        build_model(ModelArgs(), "int3")
