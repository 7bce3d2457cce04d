import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from sparseflow.compress.quantize import QuantConfig, freeze_observers, prepare_qat, to_integer
from sparseflow.errors import ConfigError, DataError
from sparseflow.nn import models
from sparseflow.recipes.triseg.checkpoint import Images, build_network, network_name, read_qat, save_qat, sites_of

IMAGES = Images(shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3, classes=("a", "b"))


def trained(model="resnet18", config=None, steps=2, **arguments):
    """A few steps of training, so that ranges, statistics and scales are not those of the start."""
    torch.manual_seed(1)
    qat = prepare_qat(models.build(model, **arguments), torch.randn(4, 3, 32, 32), config)
    optimizer = torch.optim.SGD(qat.parameters(), lr=0.05)
    qat.train()
    for _ in range(steps):
        loss = qat(torch.randn(8, 3, 32, 32)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return qat.eval()


@pytest.mark.parametrize("model", ["resnet18", "mobilenetv1", "squeezenet", "nin"])
def test_the_loaded_network_has_the_codes_of_the_saved_one(tmp_path, model):
    qat = trained(model, width=0.125)
    file = save_qat(
        tmp_path / "deep" / "x.safetensors", qat, model=model, arguments={"width": 0.125}, images=IMAGES,
        record={"accuracy": 0.25},
    )  # fmt: skip
    found = read_qat(file)
    x = torch.randn(3, 3, 32, 32)
    one, other = to_integer(qat), to_integer(found.graph)
    assert torch.equal(one(x), other(x))
    for name, layer in one.layers.items():
        assert torch.equal(layer.weight, other.layers[name].weight), name
    assert (found.record, found.images, found.model, found.source) == ({"accuracy": 0.25}, IMAGES, model, file)
    assert all(site.node in other.points for site in found.sites)


def test_weights_take_a_byte_and_ranges_stay_when_training_goes_on(tmp_path):
    qat = trained("alexnet", width=0.25)
    freeze_observers(qat)
    file = save_qat(
        tmp_path / "x.safetensors", qat, model="alexnet", arguments={"width": 0.25}, images=IMAGES, record={}
    )
    parameters = sum(p.numel() for p in qat.parameters())
    assert file.stat().st_size < 1.25 * parameters
    found = read_qat(file)
    before = to_integer(found.graph)
    found.graph.train()
    found.graph(torch.randn(8, 3, 32, 32) * 9)
    after = to_integer(found.graph)
    assert {n: p.spec for n, p in before.points.items()} == {n: p.spec for n, p in after.points.items()}


def test_the_range_of_codes_is_kept(tmp_path):
    config = QuantConfig(activation_max=15, weight_max=7)
    qat = trained("lenet5", config)
    file = save_qat(
        tmp_path / "x.safetensors", qat, model="lenet5", arguments={}, images=IMAGES, record={}, config=config
    )
    net = to_integer(read_qat(file).graph)
    assert max(float(c.max()) for c in net.codes(torch.randn(9, 3, 32, 32) * 9).values()) == 15
    assert all(float(layer.weight.abs().max()) <= 7 for layer in net.layers.values())


def test_damaged_and_foreign_files_are_refused(tmp_path):
    qat = trained("lenet5", steps=0)
    file = save_qat(tmp_path / "x.safetensors", qat, model="lenet5", arguments={}, images=IMAGES, record={})
    whole = file.read_bytes()
    with pytest.raises(DataError, match=r"no checkpoint .*gone"):
        read_qat(tmp_path / "gone.safetensors")
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        read_qat(file)
    models.save_checkpoint(file, nn.Linear(1, 1).half().float(), name="lenet5", arguments={}, record={})
    with pytest.raises(DataError, match="no checkpoint of a network on codes"):
        read_qat(file)
    save_qat(file, qat, model="lenet5", arguments={"width": 2.0}, images=IMAGES, record={})
    with pytest.raises(DataError, match="does not fit network 'lenet5'"):
        read_qat(file)
    save_qat(file, qat, model="lenet5", arguments={"wide": 2.0}, images=IMAGES, record={})
    with pytest.raises(DataError, match="wide"):
        read_qat(file)


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    qat = trained("lenet5", steps=0)
    file = save_qat(tmp_path / "x.safetensors", qat, model="lenet5", arguments={}, images=IMAGES, record={})
    with safe_open(file, "pt") as f:
        tensors, header = {key: f.get_tensor(key) for key in f.keys()}, f.metadata()  # noqa: SIM118
    key = next(key for key in tensors if key.endswith("fc1.weight.scale") or key.endswith("fc1.linear.weight.scale"))
    tensors[key][0] = float("nan")
    save_file(tensors, file, header)
    with pytest.raises(DataError, match=rf"x\.safetensors.*{re.escape(key)} holds values that are not finite"):
        read_qat(file)


def test_a_diverged_network_is_not_written(tmp_path):
    qat = trained("lenet5", steps=0)
    bias = next(p for n, p in qat.named_parameters() if n.endswith("bias"))
    with torch.no_grad():
        bias[0] = float("nan")
    with pytest.raises(ConfigError, match="not finite"):
        save_qat(tmp_path / "x.safetensors", qat, model="lenet5", arguments={}, images=IMAGES, record={})
    assert not list(tmp_path.iterdir())


def test_networks_by_name_module_and_file(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("from torch import nn\ndef net(n=2):\n    return nn.Linear(n, n)\ndef word():\n    return 'no'\n")
    assert build_network(f"{mine}:net", {"n": 3}).in_features == 3
    assert isinstance(build_network("torch.nn:Identity"), nn.Identity)
    assert isinstance(build_network("lenet5", {"width": 0.5}), nn.Module)
    assert network_name(f"{mine}:net") == "net"
    for model, why in (
        (f"{mine}:none", "no function 'none'"),
        (f"{tmp_path / 'gone.py'}:net", "cannot import"),
        ("no_such_module_here:net", "cannot import"),
        (f"{mine}:word", "returned str"),
        (f"{mine}:net", "unexpected keyword"),
    ):
        with pytest.raises(ConfigError, match=why):
            build_network(model, {"m": 1} if "unexpected" in why else {})


def test_sites_leave_the_mode_of_the_network(tmp_path):
    net = models.build("lenet5").train()
    assert sites_of(net, (3, 32, 32)).names == ("conv1", "conv2", "fc1", "fc2")
    assert net.training
