"""The operators as torch sees them: drop-in results, layouts, gradients, opcheck and compilation."""

import pytest
import torch
import torch.nn.functional as F

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops import conv2d_spike as ops
from sparseflow.ops._library import ABSENT, native
from sparseflow.ops.conv2d_spike import amx
from sparseflow.ops.lif import LIFParams, pack_spikes, unpack_spikes
from sparseflow.ops.lif import reference as neuron
from tests.ops.conv2d_spike.test_cpp import LAYOUTS, SHAPES, inputs, weights
from tests.tolerances import assert_near

TILES = [] if amx.machine_refusal() else ["amx"]
KERNELS = ["auto", "dense"] + ([] if native is None else ["event"])
compiled = pytest.mark.skipif(native is None, reason=str(ABSENT))
KINDS = ["zeros", "ones", "some", "counts", "relu"]


def how(moves):
    return {"stride": moves.stride, "padding": moves.padding, "dilation": moves.dilation, "groups": moves.groups}


def sizes(weight, moves):
    return {"channels": weight[1] * moves.groups, "out_channels": weight[0], "kernel_size": weight[2:]}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("size", "weight_size", "moves"), SHAPES, ids=str)
def test_drop_in(size, weight_size, moves, layout, kernel):
    weight, bias = weights(weight_size)
    for kind in KINDS:
        x = inputs(size, kind).contiguous(memory_format=layout)
        got = ops.spike_conv2d(x, weight, bias, kernel=kernel, **how(moves))
        assert_near(got, F.conv2d(x, weight, bias, *moves), "conv2d_spike")
        if layout == torch.contiguous_format or x.is_contiguous():
            assert got.is_contiguous()
        else:
            assert got.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", ["some", "relu"])
@pytest.mark.parametrize(("size", "weight_size", "moves"), SHAPES[:6], ids=str)
def test_gradients_are_the_dense_ones(size, weight_size, moves, kind, kernel):
    weight, bias = weights(weight_size)
    leaves = [inputs(size, kind).requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    y = ops.spike_conv2d(*leaves, kernel=kernel, **how(moves))
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    want = torch.autograd.grad(F.conv2d(*[x.double() for x in leaves], *moves), leaves, g.double())
    for a, b in zip(torch.autograd.grad(y, leaves, g), want, strict=True):
        assert_near(a, b, "conv2d_spike_gradient")


@compiled
@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.int64, torch.float64])
def test_kernels_never_read_other_types_as_floats(dtype):
    weight, bias = weights((5, 3, 3, 3))
    words, x = pack_spikes(inputs((2, 3, 5, 5), "some")), inputs((2, 3, 5, 5), "some")
    rows, how = ops.pack_weight(weight, kernel="event"), {"channels": 3, "out_channels": 5, "kernel_size": 3}
    state, wide = torch.ones(1, 5, 3, 3, dtype=dtype), torch.ones(2, 5, 3, 3, dtype=dtype)
    calls = [
        lambda: ops.spike_conv2d(x.to(dtype), weight, bias, kernel="event"),
        lambda: ops.spike_conv2d(x, weight, bias.to(dtype), kernel="event"),
        lambda: ops.conv_words(words, rows, bias.to(dtype), **how),
        lambda: ops.conv_lif(words, rows, bias, LIFParams(), steps=2, v0=state, **how),
    ]
    # int32 stands for packed spikes there.
    if dtype != torch.int32:
        calls.append(lambda: ops.conv_lif(words, rows, bias, LIFParams(), steps=2, residual=wide, **how))
    for call in calls:
        with pytest.raises(UnsupportedError, match="computes in float32"):
            call()


@compiled
def test_packed_weights_may_be_strided():
    weight, bias = weights((5, 3, 3, 3))
    words, x = pack_spikes(inputs((2, 3, 5, 5), "some")), inputs((2, 3, 5, 5), "relu")
    rows, how = ops.pack_weight(weight, kernel="event"), {"channels": 3, "out_channels": 5, "kernel_size": 3}
    apart = torch.stack([rows, rows], 1)[:, 0]
    assert torch.equal(ops.conv_words(words, apart, bias, **how), ops.conv_words(words, rows, bias, **how))
    assert torch.equal(
        ops.conv_lif(words, apart, bias, LIFParams(), steps=2, **how)[1],
        ops.conv_lif(words, rows, bias, LIFParams(), steps=2, **how)[1],
    )
    assert torch.equal(
        ops.spike_conv2d(x, weight, bias, rows=apart, kernel="event"),
        ops.spike_conv2d(x, weight, bias, rows=rows, kernel="event"),
    )


@pytest.mark.parametrize("kernel", KERNELS[1:] + TILES)
def test_packed_operators_pass_gradients_on(kernel):
    size, weight_size, moves = SHAPES[0 if kernel == "amx" else 3]
    weight, bias = weights(weight_size)
    x, params = inputs((4, *size[1:]), "some"), LIFParams(v_reset=None)
    y = F.conv2d(x, weight, bias, *moves)
    residual, v0 = torch.randn_like(y), torch.randn_like(y[:2])
    rows = ops.pack_weight(weight, moves.groups, kernel=kernel)
    leaves = [bias, residual, v0, *([rows] if kernel == "dense" else [])]
    for leaf in leaves:
        leaf.requires_grad_()
    plain = rows if kernel == "dense" else weight
    want_v = neuron.lif(F.conv2d(x, plain, bias, *moves) + residual, params, steps=2, v0=v0)[1]
    want = torch.autograd.grad(want_v.square().sum(), leaves)
    words = pack_spikes(x)
    _, v = ops.conv_lif(
        words, rows, bias, params, steps=2, v0=v0, residual=residual, **sizes(weight_size, moves), **how(moves)
    )
    for a, b in zip(torch.autograd.grad(v.square().sum(), leaves), want, strict=True):
        assert_near(a, b, "conv2d_spike_gradient")
    leaves = [bias, *leaves[3:]]
    want = torch.autograd.grad(F.conv2d(x, plain, bias, *moves).square().sum(), leaves)
    floats = ops.conv_words(words, rows, bias, **sizes(weight_size, moves), **how(moves))
    for a, b in zip(torch.autograd.grad(floats.square().sum(), leaves), want, strict=True):
        assert_near(a, b, "conv2d_spike_gradient")


@pytest.mark.parametrize("kernel", KERNELS + TILES)
def test_empty_batches(kernel):
    weight, bias = weights((5, 3, 3, 3))
    x = torch.empty(0, 3, 4, 4)
    assert ops.spike_conv2d(x, weight, bias, kernel=kernel).shape == (0, 5, 2, 2)
    rows = ops.pack_weight(weight, kernel=kernel)
    words, how = pack_spikes(x), {"channels": 3, "out_channels": 5, "kernel_size": 3}
    assert ops.conv_words(words, rows, bias, **how).shape == (0, 5, 2, 2)
    out, v = ops.conv_lif(words, rows, bias, LIFParams(), steps=2, **how)
    assert out.shape == (0, 2, 2, 1)
    assert v.shape == (0, 5, 2, 2)


def test_other_float_types_run_densely():
    weight, bias = weights((5, 3, 3, 3))
    for dtype in (torch.float64, torch.bfloat16):
        x = inputs((2, 3, 5, 5), "some").to(dtype)
        got = ops.spike_conv2d(x, weight.to(dtype), bias.to(dtype))
        assert torch.equal(got, F.conv2d(x, weight.to(dtype), bias.to(dtype)))
        if native is not None:
            with pytest.raises(UnsupportedError, match="computes in float32"):
                ops.spike_conv2d(x, weight.to(dtype), bias.to(dtype), kernel="event")


def test_not_finite_weights_run_densely():
    weight, bias = weights((5, 3, 3, 3))
    weight[2, 1] = torch.inf
    x = inputs((2, 3, 5, 5), "some")
    got, want = ops.spike_conv2d(x, weight, bias), F.conv2d(x, weight, bias)
    assert torch.equal(got.isnan(), want.isnan())


def test_strided_inputs():
    weight, bias = weights((5, 3, 3, 3))
    x = inputs((2, 6, 10, 10), "some")[:, ::2, 1:, ::2]
    assert_near(ops.spike_conv2d(x, weight, bias), F.conv2d(x, weight, bias), "conv2d_spike")


def test_packed_rows_say_what_they_are_for():
    weight, _ = weights((5, 3, 3, 3))
    for kernel in KERNELS[1:] + TILES:
        rows = ops.pack_weight(weight, kernel=kernel)
        assert ops.kernel_of(rows) == kernel
    words = pack_spikes(inputs((2, 3, 5, 5), "some"))
    plain = ops.pack_weight(weight, kernel="dense")
    with pytest.raises(UnsupportedError, match="packed for 'dense'"):
        ops.conv_words(words, plain, channels=3, out_channels=5, kernel_size=3, kernel="event")


def test_bad_operands_are_named():
    weight, bias = weights((5, 3, 3, 3))
    x = torch.ones(1, 3, 4, 4)
    with pytest.raises(ConfigError, match="do not fit in 1 groups"):
        ops.spike_conv2d(torch.ones(1, 4, 4, 4), weight, bias)
    with pytest.raises(ConfigError, match="does not fit the padded 2x2 map"):
        ops.spike_conv2d(x[..., :2, :2], weight, bias)
    with pytest.raises(ConfigError, match="stride"):
        ops.spike_conv2d(x, weight, bias, stride=0)
    with pytest.raises(UnsupportedError, match="no kernel 'magic'"):
        ops.spike_conv2d(x, weight, bias, kernel="magic")
    with pytest.raises(UnsupportedError, match="no kernel 'magic'"):
        ops.pack_weight(weight, kernel="magic")
    with pytest.raises(ConfigError, match="pack_weight"):
        ops.pack_weight(weight[0])
    rows, words = ops.pack_weight(weight, kernel="dense"), pack_spikes(torch.ones(3, 3, 4, 4))
    how = {"channels": 3, "out_channels": 5, "kernel_size": 3}
    with pytest.raises(ConfigError, match="expected int32"):
        ops.conv_words(x, rows, **how)
    with pytest.raises(ConfigError, match=r"expected \(5, 3, 5, 5\)"):
        ops.conv_words(words, rows, channels=3, out_channels=5, kernel_size=5, padding=2)
    for short in (bias[:3], bias[:, None], torch.tensor(1.0)):
        with pytest.raises(ConfigError, match="bias has shape"):
            ops.spike_conv2d(x, weight, short)
        with pytest.raises(ConfigError, match="bias has shape"):
            ops.conv_words(words, rows, short, **how)
        with pytest.raises(ConfigError, match="bias has shape"):
            ops.conv_lif(words, rows, short, LIFParams(), steps=3, **how)
    with pytest.raises(ConfigError, match="steps is 2"):
        ops.conv_lif(words, rows, None, LIFParams(), steps=2, **how)
    with pytest.raises(ConfigError, match="v0 has shape"):
        ops.conv_lif(words, rows, None, LIFParams(), steps=3, v0=x, **how)
    with pytest.raises(ConfigError, match="residual has shape"):
        ops.conv_lif(words, rows, None, LIFParams(), steps=3, residual=x, **how)


@pytest.mark.parametrize("kernel", KERNELS + TILES)
def test_opcheck(kernel):
    size, weight_size, moves = SHAPES[0 if kernel == "amx" else 3]
    weight, bias = weights(weight_size)
    x = inputs((4, *size[1:]), "some")
    rows = ops.pack_weight(weight, moves.groups, kernel=kernel)
    words, flat = pack_spikes(x), moves.flat()
    leaves = (x.clone().requires_grad_(), weight.requires_grad_(), bias.requires_grad_())
    torch.library.opcheck(torch.ops.sparseflow.spike_conv2d.default, (*leaves, None, flat, kernel))
    last = x.contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(torch.ops.sparseflow.spike_conv2d.default, (last, weight, None, None, flat, kernel))
    torch.library.opcheck(torch.ops.sparseflow.conv_words.default, (words, rows, bias, list(weight_size), flat))
    constants = (2, 2.0, 1.0, 0.0, True, True)
    y = ops.conv_words(words, rows, bias, **sizes(weight_size, moves), **how(moves)).detach()
    for residual in (None, y, pack_spikes((y > 0).float())):
        rest = (y[:2].clone(), residual, list(weight_size), flat, *constants)
        torch.library.opcheck(torch.ops.sparseflow.conv_lif.default, (words, rows, bias.detach(), *rest))
        # opcheck's own loss adds integer to float outputs, so with a gradient only these three run.
        some = ("test_schema", "test_faketensor", "test_autograd_registration")
        torch.library.opcheck(torch.ops.sparseflow.conv_lif.default, (words, rows, bias, *rest), test_utils=some)


@pytest.mark.parametrize("kernel", KERNELS + TILES)
def test_compiles_in_one_graph(kernel):
    weight, bias = weights((40, 33, 3, 3))
    rows = ops.pack_weight(weight, kernel=kernel)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def net(x):
        y = ops.spike_conv2d(x, weight, bias, padding=1, kernel=kernel)
        words = pack_spikes((x > 0).float())
        out, v = ops.conv_lif(
            words, rows, bias, LIFParams(), steps=2, channels=33, out_channels=40, kernel_size=3, padding=1
        )
        return y + unpack_spikes(out, 40), v

    x = inputs((4, 33, 6, 6), "some")
    y, v = net(x)
    want = F.conv2d(x, weight, bias, padding=1)
    spikes, last = neuron.lif(want, LIFParams(), steps=2)
    assert_near(y, want + spikes, "conv2d_spike")
    assert_near(v, last, "conv2d_spike")


@pytest.mark.skipif(native is None, reason=str(ABSENT))
def test_without_the_extension_torch_serves(monkeypatch):
    from sparseflow.ops.conv2d_spike import cpp
    from sparseflow.ops.lif import cpp as neuron_cpp

    monkeypatch.setattr(cpp, "ABSENT", "the compiled kernels are missing")
    monkeypatch.setattr(neuron_cpp, "native", None)
    weight, bias = weights((5, 3, 3, 3))
    x = inputs((2, 3, 5, 5), "some")
    rows = ops.pack_weight(weight)
    assert ops.kernel_of(rows) == "dense"
    want = F.conv2d(x, weight, bias)
    assert torch.equal(ops.spike_conv2d(x, weight, bias), want)
    assert_near(
        ops.conv_words(pack_spikes(x), rows, bias, channels=3, out_channels=5, kernel_size=3), want, "conv2d_spike"
    )
    with pytest.raises(UnsupportedError, match="missing"):
        ops.spike_conv2d(x, weight, bias, kernel="event")
    with pytest.raises(UnsupportedError, match="missing"):
        ops.pack_weight(weight, kernel="event")
