"""Layers on bytes return the codes of layers on float32."""

import pytest
import torch
from torch import nn

from sparseflow.compress.quantize import prepare_qat, to_integer
from sparseflow.compress.quantize.byte_layer import ByteLayer, max_pool
from tests.quantized_nets import NETS, net

GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 5, "stride": 2, "padding": 2},
    {"kernel_size": 1},
    {"kernel_size": 3, "dilation": 2},
    {"kernel_size": 3, "padding": 1, "groups": 4},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": "same"},
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("bias", ["float32", "int32"])
def test_codes_are_those_of_the_layer(geometry: dict[str, object], bias: str) -> None:
    torch.manual_seed(1)
    inner = nn.Conv2d(8, 12, **geometry)  # type: ignore[arg-type]
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), inner, nn.BatchNorm2d(12).eval(), nn.ReLU(), nn.Conv2d(12, 4, 1)
    )
    made = to_integer(prepare_qat(model.eval(), torch.randn(4, 3, 9, 10)), bias=bias)  # type: ignore[arg-type]
    codes = torch.randint(0, 128, (3, 8, 9, 10), dtype=torch.uint8)
    for layer in list(made.layers.values())[1:]:
        given = codes if layer.weight.shape[1] * layer.call["groups"] == 8 else codes.repeat(1, 2, 1, 1)[:, :12]
        want = layer(given.float())
        got = ByteLayer(layer)(given)
        assert got.dtype == (torch.float32 if layer.target is None else torch.uint8)
        assert torch.equal(got.float(), want)
        assert ByteLayer(layer)(given[:0]).shape == (0, *want.shape[1:])


def test_sums_too_long_for_float32_are_rounded_alike() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(3, 700, 1), nn.ReLU(), nn.Conv2d(700, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    nn.init.uniform_(model[2].weight, 0.5, 1.0)  # type: ignore[arg-type]
    layer = list(to_integer(prepare_qat(model.eval(), torch.randn(2, 3, 4, 4))).layers.values())[1]
    assert len(layer.parts) > 1
    codes = torch.randint(100, 128, (2, 700, 4, 4), dtype=torch.uint8)
    assert torch.equal(ByteLayer(layer)(codes).float(), layer(codes.float()))


@pytest.mark.parametrize("name", list(NETS))
def test_every_layer_of_a_network(name: str) -> None:
    model, x = net(name, batch=4)
    made = to_integer(prepare_qat(model, x))
    taken: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for path, layer in made.layers.items():
        layer.register_forward_hook(lambda m, args, out, path=path: taken.__setitem__(path, (args[0], out)))
    made(x)
    for path, (codes, out) in taken.items():
        assert torch.equal(ByteLayer(made.layers[path])(codes.to(torch.uint8)).float(), out), path


def test_x86_runs_on_bytes() -> None:
    if not torch.backends.mkldnn.is_available() or "AVX" not in torch.backends.cpu.get_cpu_capability():
        pytest.skip("oneDNN has products of bytes on x86 alone")
    model, x = net("chain", batch=2)
    kernels = [ByteLayer(layer).kernel for layer in to_integer(prepare_qat(model, x)).layers.values()]
    assert kernels == ["float32", "onednn", "float32", "float32"]


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d((2, 3), (1, 2), (1, 0), (2, 1))])
def test_max_pool(pool: nn.MaxPool2d) -> None:
    codes = torch.randint(0, 256, (3, 5, 9, 12), dtype=torch.uint8)
    for given in (codes, codes.contiguous(memory_format=torch.channels_last), codes[:0]):
        got = max_pool(given, pool)
        assert torch.equal(got.float(), pool(given.float()))
        assert got.permute(0, 2, 3, 1).is_contiguous()
