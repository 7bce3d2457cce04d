import importlib.util
import subprocess
import sys

import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn import models
from sparseflow.recipes.pick import pick, spikingjelly_builders

needs_jelly = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("spikingjelly", "torchvision")),
    reason="SpikingJelly or torchvision is not installed",
)


@pytest.mark.parametrize("name", models.names())
def test_every_network_of_the_zoo_takes_its_sample(name):
    picked = pick(name, batch=1)
    assert not picked.model.training
    if "50" not in name:
        with torch.no_grad():
            assert picked.model(picked.sample).shape == ((1, 7, 96) if name == "cmamba" else (1, 10))


def test_colour_networks_see_real_images_and_shapes_win():
    assert "CIFAR-10" in pick("spiking_vgg9", batch=3).origin
    assert pick("spiking_vgg9", batch=3).sample.shape == (3, 3, 32, 32)
    assert pick("sew_resnet18", shape=(1, 3, 16, 16)).sample.shape == (1, 3, 16, 16)


def test_a_seed_gives_the_same_model_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    first, second = (pick("csnn", seed=3) for _ in range(2))
    assert torch.equal(first.sample, second.sample)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_checkpoint_by_path(tmp_path):
    model = models.build("csnn", channels=8)
    models.checkpoint.round_half(model)
    path = tmp_path / "mine.safetensors"
    models.save_checkpoint(path, model, name="csnn", arguments={"channels": 8}, record={})
    assert pick(str(path)).name == "mine"
    path.write_bytes(b"no")
    with pytest.raises(DataError):
        pick(str(path))


def test_a_factory_by_module_and_by_file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("import torch\ndef build():\n    return torch.nn.Linear(4, 2)\n")
    assert pick(f"{path}:build", shape=(3, 4)).sample.shape == (3, 4)
    assert pick("torch.nn:Identity", shape=(1,)).name == "Identity"


def test_a_factory_s_neighbours_are_found_as_a_script_s_are(tmp_path, monkeypatch):
    (tmp_path / "a_neighbour.py").write_text("WIDTH = 5\n")
    text = "import torch\nfrom a_neighbour import WIDTH\ndef build():\n    return torch.nn.Linear(4, WIDTH)\n"
    (tmp_path / "net_with_neighbour.py").write_text(text)
    before = list(sys.path), list(sys.meta_path)
    assert pick(f"{tmp_path}/net_with_neighbour.py:build", shape=(3, 4)).model.out_features == 5
    monkeypatch.chdir(tmp_path)
    assert pick("net_with_neighbour:build", shape=(3, 4)).model.out_features == 5
    assert (sys.path, sys.meta_path) == before


@needs_jelly
def test_spikingjelly_s_builders():
    assert len(spikingjelly_builders()) >= 25
    picked = pick("spiking_vgg11_bn", shape=(2, 1, 3, 32, 32))
    assert picked.sample.shape == (2, 1, 3, 32, 32)
    assert "SpikingJelly" in picked.origin
    assert "SpikingJelly" in pick("spikingjelly.spikformer_cifar10").origin


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("spiking_vgg99", None, "did you mean spiking_vgg9"),
        ("torch.nn:Linear", (1,), "cannot build 'torch.nn:Linear': TypeError"),
        ("json:loads", None, "add --shape"),
        ("time:time", (1,), "returned float"),
        ("csnn", (1, 0), "positive sizes"),
        ("no/such.py:f", (1,), "FileNotFoundError"),
    ],
)
def test_what_is_wrong_is_named(name, shape, message):
    with pytest.raises(ConfigError, match=message):
        pick(name, shape=shape)


def test_an_empty_batch_is_refused():
    with pytest.raises(ConfigError, match="batch is 0"):
        pick("csnn", batch=0)


_IMPORT = """
from sparseflow.recipes import pick
pick._declare_torchvision()
pick._declare_torchvision()
import torchvision, torch
print("nms" if hasattr(torch.ops.torchvision, "nms") else "nothing")
"""


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvision_imports_whether_or_not_its_operators_fit_this_torch():
    done = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.strip() == "nms"
