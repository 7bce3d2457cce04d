import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn import models
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models import save_checkpoint
from sparseflow.nn.models.checkpoint import round_half
from sparseflow.recipes.exact import make_exact
from sparseflow.recipes.spike_start import load_weights, threshold_start, unfold_norms


def images(n=8, side=16, seed=0):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["spiking_resnet18", "spiking_resnet50"])
def test_a_block_whose_branch_is_silent_passes_its_spikes_on(name):
    model = models.build(name, width=4, steps=4).eval()
    threshold_start(model)
    block = model.layer1[1]
    merged = block.bn3 if name.endswith("50") else block.bn2
    merged.weight.data.zero_()
    channels = len(merged.weight)
    spikes = (torch.rand(4, 2, channels, 5, 5, generator=torch.Generator().manual_seed(3)) < 0.3).float()
    assert torch.equal(block(spikes), spikes)


def test_norms_of_every_kind_are_set():
    model = models.build("spiking_resnet50", width=4)
    threshold_start(model)
    first, other = model.layer2[0], model.layer2[1]
    assert (other.bn3.weight == 0.3).all()
    assert (other.bn3.bias == 1.0).all()
    assert (first.bn3.bias == 0.0).all()
    assert (first.downsample[1].bias == 0.7).all()
    assert (model.bn1.bias == 0.7).all()


@pytest.mark.parametrize("name", ["sew_resnet18", "spiking_vgg9"])
def test_other_networks_are_refused(name):
    with pytest.raises(ConfigError, match="made for spiking_resnet18"):
        threshold_start(models.build(name))


def trained(seed=0):
    torch.manual_seed(seed)
    model = models.build("spiking_resnet18", width=4, steps=2, stem="cifar")
    threshold_start(model)
    model.train()(images(seed=1))
    reset_net(model)
    return model.eval()


def stored(model, path, name="spiking_resnet18"):
    round_half(model)
    save_checkpoint(path, model, name=name, arguments={"width": 4}, record={})


def test_weights_come_back(tmp_path):
    model = trained()
    stored(model, tmp_path / "a.safetensors")
    other = models.build("spiking_resnet18", width=4, steps=2)
    load_weights(other, "spiking_resnet18", tmp_path / "a.safetensors")
    got, want = other.state_dict(), model.state_dict()
    assert all(torch.equal(got[key], want[key]) for key in want)


def test_what_cannot_be_loaded_is_named(tmp_path):
    stored(trained(), tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="checkpoint of 'spiking_resnet18'; the run trains 'sew_resnet18'"):
        load_weights(models.build("sew_resnet18", width=4), "sew_resnet18", tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="does not fit"):
        load_weights(models.build("spiking_resnet18", width=8), "spiking_resnet18", tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="no checkpoint"):
        load_weights(trained(), "spiking_resnet18", tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="damaged"):
        load_weights(trained(), "spiking_resnet18", tmp_path / "c.safetensors")


def test_folded_norms_train_on_from_where_the_network_is():
    model = trained()
    x = images(n=32, seed=5)
    make_exact(model, x[:2])
    with torch.no_grad():
        want = model(x)
        reset_net(model)
        folded = model.train()(x)
        reset_net(model.eval())
    model = trained()
    make_exact(model, x[:2])
    unfold_norms(model, x)
    with torch.no_grad():
        same = model(x)
        reset_net(model)
        training = model.train()(x)
    torch.testing.assert_close(same, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(training, want, rtol=1e-3, atol=1e-3)
    assert (folded - want).abs().max() > 0.1


def test_norms_with_statistics_are_left_alone():
    model = trained()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    unfold_norms(model, images())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
