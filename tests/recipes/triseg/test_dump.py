import pytest
import torch
from safetensors.torch import load_file

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.triseg.analyze import AnalyzeConfig
from sparseflow.recipes.triseg.dump import EditConfig, Tapped, baseline, dump, edit
from sparseflow.recipes.triseg.teacher import FLOAT, load_teacher
from sparseflow.recipes.triseg.train import read_float
from tests.triseg_teachers import save_teacher, splits

TAPS = ("block_output.conv1", "block_output.conv2", "classifier.fc1.out", "classifier.fc2.out")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    save_teacher(folder)
    return folder


def look(out, **changed):
    return AnalyzeConfig(**{"model": "lenet5", "out": str(out), "batch_size": 20, "split": "val", **changed})


def test_codes_of_one_batch_are_written_by_tap(out):
    parts = splits()
    file = dump(look(out), splits=parts)
    assert file == out / "lenet5_acts_int8.safetensors"
    found = load_file(file)
    assert set(found) == {*TAPS, "images", "labels", "logits"}
    teacher = load_teacher("lenet5", out)
    x = (parts.val.images[:20].float() / 255 - 0.5) / 0.25
    assert torch.equal(found["logits"], teacher.net(x))
    for tap, codes in zip(TAPS, teacher.net.codes(x, points=teacher.points).values(), strict=True):
        assert found[tap].dtype == torch.uint8
        assert torch.equal(found[tap].float(), codes)
    assert torch.equal(found["labels"], parts.val.labels[:20])


def test_values_in_float32_are_those_behind_the_relu(out, tmp_path):
    parts = splits()
    found = torch.load(dump(look(out), tmp_path / "a" / "acts.pt", floating=True, splits=parts), weights_only=True)
    net, _ = read_float(out / FLOAT.format(model="lenet5"), "lenet5")
    net.eval()
    seen = {}
    for name, module in net.named_modules():
        if name.endswith("relu"):
            module.register_forward_hook(lambda m, a, value, name=name: seen.update({name: value.detach().clone()}))
    x = parts.val.normalize(parts.val.images[:20])
    with torch.no_grad():
        assert torch.equal(found["logits"], net(x))
    assert [torch.equal(found[tap], value) for tap, value in zip(TAPS, seen.values(), strict=True)] == [True] * 4


def test_edits_change_only_what_they_say(out):
    net, _ = read_float(out / FLOAT.format(model="lenet5"), "lenet5")
    tapped = Tapped(net, (3, 32, 32))
    x = torch.randn(3, 3, 32, 32)
    plain = tapped.values(x)
    tapped.edits[tapped.sites[1].node] = torch.zeros_like
    with torch.no_grad():
        assert not torch.equal(tapped(x), net(x))
    assert list(plain) == list(TAPS)


@pytest.mark.parametrize("floating", [False, True])
def test_zeroed_channels_are_told_with_both_accuracies(out, floating):
    told = edit(
        EditConfig(layer="conv2", channels=16, floating=floating, look=look(out, batches=None)), splits=splits()
    )
    assert (told["layers"], told["images"], told["network"]) == (["conv2"], 64, "float32" if floating else "int8")
    assert told["acc_drop"] == told["acc_baseline"] - told["acc_modified"]
    # Behind all channels at 0 every image gets the same answer.
    assert told["acc_modified"] < 30
    if not floating:
        assert told["acc_baseline"] > 30


def test_baselines_are_those_of_the_networks(out):
    parts = splits()
    teacher = load_teacher("lenet5", out)
    told = baseline(look(out, batches=None), splits=parts)
    x = (parts.val.images.float() / 255 - 0.5) / 0.25
    right = (teacher.net(x).argmax(1) == parts.val.labels).double().mean()
    assert told == {"model": "lenet5", "network": "int8", "accuracy": 100 * float(right), "images": 64, "split": "val"}
    net, _ = read_float(out / FLOAT.format(model="lenet5"), "lenet5")
    told = baseline(look(out, split="calib", batches=None), floating=True, splits=parts)
    right = (net.eval()(parts.calib.normalize(parts.calib.images)).argmax(1) == parts.calib.labels).double().mean()
    assert (told["network"], told["accuracy"]) == ("float32", 100 * float(right))


def test_buckets_change_every_site(out):
    told = edit(EditConfig(what="buckets", look=look(out, batches=None)), splits=splits())
    assert told["layers"] == ["conv1", "conv2", "fc1", "fc2"]
    assert told["channels"] is None
    assert 0 <= told["acc_modified"] <= 100


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"layer": "conv9"}, "no layer 'conv9'; there are conv1, conv2, fc1, fc2"),
        ({"channels": 7}, "'conv1' has 6 channels"),
    ],
)
def test_a_wrong_layer_or_width_is_named(out, config, said):
    for floating in (False, True):
        with pytest.raises(ConfigError, match=said):
            edit(EditConfig(floating=floating, look=look(out), **config), splits=splits())


def test_bad_settings_and_files_are_named(out, tmp_path):
    with pytest.raises(ConfigError, match="edit is 'blur'"):
        EditConfig(what="blur")
    with pytest.raises(ConfigError, match="channels is 0"):
        EditConfig(channels=0)
    with pytest.raises(ConfigError, match="buckets are a map of codes"):
        EditConfig(what="buckets", floating=True)
    with pytest.raises(ConfigError, match=r"acts\.npz.*\.safetensors or \.pt"):
        dump(look(out), tmp_path / "acts.npz", splits=splits())
    with pytest.raises(DataError, match="lenet5_float_unfused"):
        dump(look(tmp_path), floating=True, splits=splits())
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the folder"):
        dump(look(out), tmp_path / "file" / "acts.pt", splits=splits())
