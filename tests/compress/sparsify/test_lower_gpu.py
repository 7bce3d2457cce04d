"""Lowered networks keep spikes packed, merge shortcuts and sums, and give what the models give."""

import pickle
from typing import Any

import pytest
import torch
from torch import nn

from sparseflow.compress.sparsify.fuse import Fused
from sparseflow.compress.sparsify.lower_gpu import Policy, lower_gpu
from sparseflow.compress.sparsify.parity_gpu import compare_lowered, judge_lowered
from sparseflow.compress.sparsify.regions import observe
from sparseflow.errors import UnsupportedError
from sparseflow.nn import spikes as packed
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models import build
from sparseflow.nn.neurons import LIFNode
from sparseflow.nn.spike_block import NeuronBlock
from sparseflow.nn.spike_layer_block import SpikeLayerBlock
from sparseflow.nn.stem_block import StemBlock
from sparseflow.nn.stream_block import StreamBlock
from sparseflow.trace import capture
from sparseflow.trace._state import quiet
from tests.spiking_nets import NEURONS, Residual, alive, chain
from tests.torchvision_shim import install


def lower(model: nn.Module, x: torch.Tensor, **policy: Any) -> Fused:
    traced = capture(model, x).graph_module
    assert traced is not None
    with quiet(model):
        facts = observe(traced, (x,))
    return lower_gpu(traced, facts, Policy(**policy))


def layers(lowered: Fused) -> dict[str, SpikeLayerBlock]:
    found = {name: lowered.graph_module.get_submodule(name) for name in lowered.blocks}
    return {name.removeprefix("blocks."): b for name, b in found.items() if isinstance(b, SpikeLayerBlock)}


@torch.no_grad()
def check(model: nn.Module, x: torch.Tensor, kernel: str = "dense", tol: float = 1e-3) -> Fused:
    """Compare logits of the exact form end to end, and spikes of both precisions layer by layer."""
    reset_net(model)
    want = model(x)
    reset_net(model)
    for precision in ("exact", "fp16"):
        lowered = lower(model, x, precision=precision, kernel=kernel)
        parity = compare_lowered(lowered, (x,), dict(model.named_modules()))
        assert parity.spikes > 0
        if precision == "exact":
            assert judge_lowered(parity, precision) is None
            assert float((lowered.graph_module(x) - want).abs().max()) <= tol * float(want.abs().max())
        else:
            assert parity.mismatches <= 5e-4 * parity.spikes
            assert parity.layer_rel_err < 4e-3
            assert lowered.graph_module(x).dtype == want.dtype
    return lowered


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
def test_every_neuron(neuron: Any) -> None:
    check(*chain(neuron))


@pytest.mark.parametrize("kernel", ["dense", "library"])
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("sew", [False, True])
def test_residuals(sew: bool, down: bool, kernel: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    lowered = check(alive(Residual(sew, down), x), x, kernel)
    blocks = layers(lowered)
    if not sew:
        assert [len(b.parts) for b in blocks.values()] == [1, 2 if down else 1, 1]
        assert blocks["sn2"].identity == (0 if down else 1)
    elif not down:
        assert blocks["sn2"].out_planes == 2
        assert blocks["sn3"].parts[0].planes == 2


@pytest.mark.parametrize("name", ["sew_resnet18", "spiking_resnet18", "spiking_resnet50", "spiking_vgg9", "csnn"])
def test_our_networks(name: str) -> None:
    small = {"csnn": {"channels": 8}, "spiking_vgg9": {}}.get(name, {"width": 8})
    x = torch.rand(2, 1, 28, 28) if name == "csnn" else torch.randn(2, 3, 32, 32)
    model = alive(build(name, **small), x)
    lowered = check(model, x)
    blocks = layers(lowered)
    targets = [n.target for n in lowered.graph_module.graph.nodes if n.op == "call_function"]
    assert packed.pack not in targets
    assert packed.unpack not in targets
    convs = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    merged = sum(len(b.parts) for b in blocks.values() if not b.parts[0].linear)
    assert merged == convs - 1
    if name == "sew_resnet18":
        assert packed.add not in targets
        assert max(b.out_planes for b in blocks.values()) == 2
        assert blocks["layer2_0_downsample_2"].out_planes == 1
    if name == "spiking_resnet18":
        assert sum(len(b.parts) == 2 for b in blocks.values()) == 3
        assert sum(b.identity > 0 for b in blocks.values()) == 5


@torch.no_grad()
def test_the_image_s_layer_keeps_float32_in_every_precision() -> None:
    x = torch.randn(2, 3, 32, 32)
    model = alive(build("sew_resnet18", width=8, stem="imagenet"), x)
    lowered = lower(model, x, precision="fp16")
    stems = [b for b in lowered.graph_module.modules() if isinstance(b, StemBlock)]
    assert [b.repeat for b in stems] == [4]
    assert not any(isinstance(b, NeuronBlock) for b in lowered.graph_module.modules())
    spikes = packed.unpack(stems[0](x))
    current = model.bn1(model.conv1(x))
    reset_net(model)
    assert torch.equal(spikes, model.sn1(current.expand(4, *current.shape)))
    kept = lower(model, x, keep=True)
    assert not any(isinstance(b, StemBlock) for b in kept.graph_module.modules())


@pytest.mark.parametrize("name", ["sew_resnet18", "spiking_resnet18", "spiking_vgg11_bn"])
def test_spikingjelly_s_networks(name: str) -> None:
    pytest.importorskip("spikingjelly")
    if not install():
        pytest.skip("torchvision is not installed")
    from benchmarks.spikingjelly_models import BUILDERS

    builder = next(b for b in BUILDERS if b.name == name)
    lowered = check(builder.make(), builder.sample(), "library")
    targets = [n.target for n in lowered.graph_module.graph.nodes if n.op == "call_function"]
    assert packed.pack not in targets


class _Mixed(nn.Module):
    """A real-valued stream beside spikes, averaged spikes, a grouped convolution, and a bare sum of spikes."""

    def __init__(self) -> None:
        super().__init__()
        body = alive(Residual(), torch.randn(2, 3, 8, 8))
        self.stem, self.sn1, self.sn2 = body.stem, body.sn1, body.sn2
        self.conv, self.grouped, self.last = body.conv1, type(body.conv1)(16, 16, 3, padding=1, groups=4), body.conv2
        self.avg = nn.AvgPool2d(2)
        self.side = type(body.conv1)(16, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.stem(x)
        stream = self.conv(a)
        b = self.sn1(stream)
        stream = stream + self.grouped(b)
        c = self.sn2(stream)
        both = (a + c).flatten(0, 1)
        y = self.last(self.avg(both)) + self.avg(self.side(both))
        return y.mean((2, 3))


def test_what_does_not_pack_runs_in_floats() -> None:
    lowered = check(_Mixed().eval(), torch.randn(2, 3, 8, 8))
    targets = [n.target for n in lowered.graph_module.graph.nodes if n.op == "call_function"]
    assert packed.add in targets


def test_a_network_without_packed_layers_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    with pytest.raises(UnsupportedError, match="reads spikes"):
        lower(model, torch.randn(1, 3, 8, 8))


def test_spikingjelly_s_flatten_leaves_time_alone() -> None:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    model = nn.Sequential(
        layer.Conv2d(3, 8, 3, padding=1, step_mode="m"),
        neuron.LIFNode(v_threshold=0.3, step_mode="m"),
        layer.MaxPool2d(2, step_mode="m"),
        layer.Flatten(step_mode="m"),
        layer.Linear(8 * 16, 5, step_mode="m"),
        neuron.IFNode(v_threshold=0.3, step_mode="m"),
    ).eval()
    lowered = check(model, 2 * torch.randn(3, 2, 3, 8, 8))
    assert packed.flatten in [n.target for n in lowered.graph_module.graph.nodes if n.op == "call_function"]


def test_a_lowered_graph_can_be_pickled() -> None:
    model, x = chain()
    lowered = lower(model, x)
    loaded = pickle.loads(pickle.dumps(lowered.graph_module))
    with torch.no_grad(), quiet(model), quiet(loaded):
        torch.testing.assert_close(loaded(x), lowered.graph_module(x), rtol=0, atol=0)


class _Fold(nn.Sequential):
    """Layers of torch on a sequence, steps and batch merged around them, as SpikingJelly's container."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class _Attends(nn.Module):
    """A transformer's block on tokens: pointwise convolutions, spikes times spikes, counts as residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = _Fold(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.first, self.qkv_sn, self.attn_sn, self.out_sn, self.mlp_sn = (LIFNode(step_mode="m") for _ in range(5))
        self.more = _Fold(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.more_sn = LIFNode(step_mode="m")
        self.qkv = _Fold(nn.Conv1d(8, 24, 1), nn.BatchNorm1d(24))
        self.proj = _Fold(nn.Conv1d(8, 8, 1), nn.BatchNorm1d(8))
        self.mlp = _Fold(nn.Conv1d(8, 8, 1, bias=False))
        self.last, self.last_sn = _Fold(nn.Conv2d(8, 8, 3, padding=1)), LIFNode(step_mode="m")
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.embed(x.unsqueeze(0).repeat(3, 1, 1, 1, 1)))
        x = x + self.more_sn(self.more(x))
        steps, batch, channels, height, width = x.shape
        tokens = x.flatten(3)
        heads = self.qkv_sn(self.qkv(tokens)).reshape(steps, batch, 3, 2, channels // 2, height * width)
        q, k, v = heads.unbind(2)
        y = self.attn_sn(v @ k.transpose(-2, -1) @ q * 0.25).reshape(steps, batch, channels, height * width)
        tokens = tokens + self.out_sn(self.proj(y))
        tokens = tokens + self.mlp(self.mlp_sn(tokens))
        pixels = tokens.reshape(steps, batch, channels, height, width)
        pixels = pixels + self.last(self.last_sn(pixels))
        return self.head(pixels.mean((-2, -1)).mean(0))


@pytest.mark.parametrize("kernel", ["dense", "library"])
def test_tokens_stay_packed(kernel: str) -> None:
    torch.manual_seed(3)
    x = 2 * torch.randn(2, 3, 6, 5)
    lowered = check(alive(_Attends(), x), x, kernel)
    blocks = layers(lowered)
    assert set(blocks) == {"more_sn", "qkv_sn", "out_sn", "mlp_0", "last_0"}
    streams = [b for b in lowered.graph_module.modules() if isinstance(b, StreamBlock)]
    assert len(streams) == 1
    stems = [b for b in lowered.graph_module.modules() if isinstance(b, StemBlock)]
    assert [b.repeat for b in stems] == [3]
    assert blocks["qkv_sn"].parts[0].planes == blocks["more_sn"].out_planes == 2
    assert blocks["out_sn"].out_planes == 2
    assert blocks["mlp_0"].parts[0].tokens
    targets = [n.target for n in lowered.graph_module.graph.nodes if n.op == "call_function"]
    assert targets.count(packed.regrid) == 2
    assert packed.pack not in targets


@pytest.mark.parametrize("name", ["ms_resnet18", "spikformer_cifar10", "maxformer_cifar"])
def test_spikingjelly_s_networks_that_branch_on_shapes(name: str) -> None:
    pytest.importorskip("spikingjelly")
    if not install():
        pytest.skip("torchvision is not installed")
    from benchmarks.spikingjelly_models import BUILDERS

    builder = next(b for b in BUILDERS if b.name == name)
    model, x = builder.make(), builder.sample()
    lowered = lower(model, x, kernel="library")
    assert len(layers(lowered)) >= 16
    assert judge_lowered(compare_lowered(lowered, (x,), dict(model.named_modules())), "fp16") is None


class _StillStem(nn.Module):
    """An image, repeated before a convolution, a norm and a pool; floats and neurons read what comes out."""

    def __init__(self, pool: bool) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), *([nn.MaxPool2d(2)] if pool else [])]
        self.stem = _Fold(*layers)
        self.sn, self.conv, self.sn2 = (
            LIFNode(step_mode="m"),
            _Fold(nn.Conv2d(8, 8, 3, padding=1)),
            LIFNode(step_mode="m"),
        )
        self.down, self.out = _Fold(nn.Conv2d(8, 8, 1)), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 4:
            x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        y = self.stem(x)
        z = self.conv(self.sn(y)) + self.down(y)
        return self.out((self.sn2(z) + y).mean((-2, -1)).mean(0))


@pytest.mark.parametrize("pool", [False, True])
def test_what_is_the_same_at_every_step_runs_once(pool: bool) -> None:
    torch.manual_seed(4)
    x = 2 * torch.randn(2, 3, 6, 6)
    model = alive(_StillStem(pool), x)
    lowered = check(model, x, "library", tol=2e-3)
    shapes: dict[str, tuple[int, ...]] = {}

    class Sees(torch.fx.Interpreter):
        def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
            shapes[str(target)] = tuple(args[0].shape) if isinstance(args[0], torch.Tensor) else ()
            return super().call_module(target, args, kwargs)

    with torch.no_grad():
        Sees(lowered.graph_module).run(x)
    side = 3 if pool else 6
    assert shapes["blocks.stem_1"] == (2, 3, 6, 6)
    assert shapes["blocks.down_0"] == (2, 8, side, side)
    assert shapes["blocks.sn"] == (2, 8, side, side)
    assert shapes.get("stem.2", (2, 8, 6, 6)) == (2, 8, 6, 6)
    with torch.no_grad():
        for batch in (1, 3):
            other = torch.randn(batch, 3, 6, 6)
            reset_net(model)
            want = model(other)
            exact = lower(model, x, precision="exact").graph_module
            assert float((exact(other) - want).abs().max()) <= 2e-3 * float(want.abs().max())
