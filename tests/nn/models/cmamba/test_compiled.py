"""The compiled forward against the published equations in float64 and against the modules, and when it must not run."""

import copy
import gc

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sparseflow.nn.models.cmamba import CMamba, ModelArgs, compiled
from sparseflow.ops._library import native
from tests.nn.models.cmamba import plain
from tests.nn.models.cmamba.test_model import SMALL, drawn
from tests.tolerances import assert_near

pytestmark = pytest.mark.skipif(compiled.ABSENT is not None, reason=str(compiled.ABSENT))
ISAS = ["scalar"] if native is None else native.isas()
VARIANTS = ("official", "seed")
ODD = (
    {}, {"d_model": 7, "expand": 1.5}, {"seq_len": 29}, {"patch_len": 1, "stride": 1}, {"forecast_len": 1},
    {"bias": True, "d_state": 1, "dt_rank": 1}, {"n_layer": 1, "num_channels": 1}, {"stride": 11},
    {"num_channels": 17, "reduction_ratio": 1}, {"d_model": 33, "num_channels": 5, "dt_rank": 40, "expand": 2.2},
    {"d_conv": 1, "conv_bias": False}, {"d_conv": 9, "norm_eps": 0.3}, {"d_model": 1, "d_state": 1},
    {"seq_len": 200, "stride": 1, "patch_len": 3},
)  # fmt: skip


def network(variant: str = "official", **given: object) -> tuple[CMamba, Tensor]:
    model, generator = drawn(ModelArgs(variant=variant, **(SMALL | given)), 0)
    return model, torch.randn(2, model.args.num_channels, model.args.seq_len, generator=generator)


def by_modules(model: CMamba, x: Tensor) -> Tensor:
    with torch.enable_grad():
        return model(x).detach()


def refused(model: CMamba, x: Tensor) -> str:
    """Return why, once it is sure that the modules answer instead."""
    reason = compiled.refuses(model, x)
    assert reason is not None
    assert compiled.forward(model, x) is None
    return reason


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_equations_in_float64(variant: str, isa: str) -> None:
    for seed, odd in enumerate(ODD):
        model, generator = drawn(ModelArgs(variant=variant, **(SMALL | odd)), seed)
        weights = {k: w.double() for k, w in model.state_dict().items()}
        for batch in (1, 3, 8):
            x = torch.randn(batch, model.args.num_channels, model.args.seq_len, generator=generator)
            got = compiled.forward(model, x, isa)
            assert got is not None
            if "norm_eps" in odd:  # the plain equations have the published one
                want = by_modules(copy.deepcopy(model).double(), x.double())
            else:
                want = plain.forward(model.args, weights, x.double())
            assert_near(got, want, "cmamba")


@pytest.mark.parametrize(("v", "batch"), [(1, 8), (2, 1), (7, 1), (7, 8), (21, 3), (64, 2), (321, 1)])
@torch.no_grad()
def test_the_papers_sizes_by_the_modules(v: int, batch: int) -> None:
    model, generator = drawn(ModelArgs.paper(v), v)
    x = torch.randn(batch, v, 96, generator=generator)
    got = compiled.forward(model, x)
    assert got is not None
    assert torch.equal(model(x), got)
    assert_near(got, by_modules(model, x).double(), "cmamba")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("variant", "v"), [("official", 1), ("official", 7), ("official", 40), ("seed", 5)])
@torch.no_grad()
def test_neither_threads_nor_the_batch_change_a_bit(variant: str, v: int, isa: str) -> None:
    args = ModelArgs.paper(v) if variant == "official" else ModelArgs(variant="seed", num_channels=v)
    model, generator = drawn(args, v)
    x = torch.randn(6, v, 96, generator=generator)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = compiled.forward(model, x, isa)
        assert whole is not None
        for n in (1, 2, 3, 5):
            torch.set_num_threads(n)
            assert torch.equal(compiled.forward(model, x, isa), whole)
            for i in range(3):
                assert torch.equal(compiled.forward(model, x[i : i + 1], isa), whole[i : i + 1])
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def test_a_batch_beyond_what_is_kept_at_once() -> None:
    model, _ = network(seq_len=64, stride=1, patch_len=2)
    x = torch.randn(70, 3, 64)
    got = compiled.forward(model, x)
    assert got is not None
    assert torch.equal(compiled.forward(model, x[68:]), got[68:])
    assert_near(got, by_modules(model, x).double(), "cmamba")


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_other_inputs(variant: str) -> None:
    model, x = network(variant)
    want = model(x)
    assert torch.equal(model(x.permute(2, 0, 1).contiguous().permute(1, 2, 0)), want)
    assert torch.equal(model(torch._neg_view(-x)), want)
    assert compiled.refuses(model, x[:0]) is None
    assert model(x[:0]).shape == (0, 3, 96)
    level = x * 100 + 1e4
    assert_near(model(level), by_modules(copy.deepcopy(model).double(), level.double()), "cmamba")
    assert bool(model(torch.full_like(x, 1e6)).isfinite().all())
    with torch.inference_mode():
        assert torch.equal(model(x), want)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("isa", ISAS)
@torch.no_grad()
def test_what_is_no_number_stays_in_its_sample(isa: str, poison: float) -> None:
    for variant in VARIANTS:
        model, x = network(variant)
        want = compiled.forward(model, x, isa)
        x[0, 1, 20] = poison
        got = compiled.forward(model, x, isa)
        assert want is not None
        assert got is not None
        assert torch.equal(got[1], want[1])
        assert bool(got[0].isnan().all()) == bool(by_modules(model, x)[0].isnan().all())


@torch.no_grad()
def test_weights_are_read_anew() -> None:
    model, x = network()
    before = model(x)
    model.head.linear.bias.data.add_(1)
    after = model(x)
    assert not torch.equal(before, after)
    assert_near(after, by_modules(model, x).double(), "cmamba")
    model.encoder.layers[0].mixer.out_proj.weight = nn.Parameter(torch.zeros(8, 16))
    assert_near(model(x), by_modules(model, x).double(), "cmamba")
    model.encoder.layers[1].norm.eps = 0.5
    assert_near(model(x), by_modules(model, x).double(), "cmamba")
    given = {k: torch.zeros_like(w) for k, w in model.named_parameters()}
    called = torch.func.functional_call(model, given, (x,))
    torch.testing.assert_close(called, x.mean(-1, keepdim=True).expand_as(called), rtol=0, atol=1e-6)
    assert compiled.refuses(model, x) is None
    square, y = network(expand=1)
    square(y)
    weight = square.encoder.layers[0].mixer.out_proj.weight
    weight.data = weight.data.t()
    assert "out_proj" in refused(square, y) or "weight" in refused(square, y)
    assert_near(square(y), by_modules(square, y).double(), "cmamba")


def test_only_plain_inference() -> None:
    model, x = network(dropout=0.5)
    assert "no gradients" in refused(model, x)
    with torch.no_grad():
        assert compiled.refuses(model, x) is None
        assert "float64" in refused(model, x.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert "autocast" in refused(model, x)
        with torch.profiler.profile():
            assert "profiler" in refused(model, x)
        assert "plain inference" in refused(model, nn.Parameter(x))
        model.train()
        assert "eval" in refused(model, x)
        model.eval()
        model.encoder.layers[1].dropout.train()
        assert "dropout" in refused(model, x)
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))


@torch.no_grad()
def test_hooks_and_other_modules_are_heard() -> None:
    model, x = network()
    want = model(x)
    heard: list[str] = []
    for hook in ("register_forward_hook", "register_forward_pre_hook"):
        handle = getattr(model.encoder.layers[0].mixer.act, hook)(lambda *_: heard.append("act"))
        assert "hooks" in refused(model, x)
        model(x)
        handle.remove()
        assert compiled.refuses(model, x) is None
    assert heard == ["act"] * 2
    handle = nn.modules.module.register_module_forward_hook(lambda *_: heard.append("any"))
    assert "hooks" in refused(model, x)
    handle.remove()
    handle = model.register_forward_hook(lambda *_: heard.append("whole"))
    assert compiled.refuses(model, x) is None
    assert torch.equal(model(x), want)
    assert heard[-1] == "whole"
    handle.remove()
    model.head.forward = lambda y: torch.zeros(*y.shape[:2], 96)
    assert "forward of their own" in refused(model, x)
    del model.head.forward
    assert torch.equal(model(x), want)


@torch.no_grad()
def test_changed_networks_run_by_their_modules() -> None:
    x = torch.randn(2, 3, 24)

    def change(model: CMamba, which: int) -> None:
        layer = model.encoder.layers[1]
        if which == 0:
            layer.mixer.act = nn.ReLU()
        elif which == 1:
            layer.GDDMLP.fc_sc.append(nn.Tanh())
        elif which == 2:
            model.encoder.layers.pop(0)
        elif which == 3:
            parametrizations.weight_norm(layer.mixer.in_proj)
        elif which == 4:
            layer.GDDMLP.fc_sf[1] = nn.GELU()
        elif which == 5:
            layer.mixer.in_proj.half()
        elif which == 6:
            layer.mixer.x_proj.bias = nn.Parameter(torch.ones(8))
        elif which == 7:
            model.double()

    for which in range(8):
        for first in (False, True):
            model, _ = network()
            if first:
                assert compiled.refuses(model, x) is None
            change(model, which)
            assert which == 4 or refused(model, x), which

    class Own(CMamba):
        pass

    assert "other modules" in refused(Own(ModelArgs(**SMALL)).eval(), x)


@torch.no_grad()
def test_copies_and_what_is_gone() -> None:
    model, x = network()
    want = model(x)
    other = copy.deepcopy(model)
    other.head.linear.bias.add_(1)
    assert torch.equal(model(x), want)
    assert not torch.equal(other(x), want)
    assert compiled.refuses(other, x) is None
    del other
    gc.collect()
    kept = len(compiled._readers)
    del model
    gc.collect()
    assert len(compiled._readers) == kept - 1


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_compilers_see_the_modules(variant: str) -> None:
    model, x = network(variant, n_layer=1)
    exported = torch.export.export(model, (x,))
    assert sum("selective_scan" in str(n.target) for n in exported.graph.nodes) == 1
    assert_near(torch.compile(model, backend="eager", fullgraph=True)(x), model(x).double(), "cmamba")
    traced = torch.jit.trace(model, x, check_trace=False)
    assert_near(traced(x + 1), model(x + 1).double(), "cmamba")


def test_wrong_counts_are_refused_by_the_kernel() -> None:
    assert native is not None
    sizes = native.CMambaSizes(True, 3, 24, 4, 8, 4, 6, 8, 2, 16, 3, 1, 0, 1, 96)
    with pytest.raises(ValueError, match="16 more a layer"):
        native.cmamba(sizes, [0], [1e-5], 0, 0, 0, 1)
    with pytest.raises(ValueError, match="no kernels"):
        native.cmamba(sizes, [0] * 38, [1e-5] * 3, 0, 0, 0, 1, "mmx")
