import pytest
import torch
from torch import nn

from sparseflow.compress.quantize import calibrate, prepare_qat, to_integer
from sparseflow.data import open_splits
from sparseflow.errors import ConfigError, DataError
from sparseflow.nn import models
from sparseflow.recipes.triseg.checkpoint import Images, save_qat
from sparseflow.recipes.triseg.fit import accuracy
from sparseflow.recipes.triseg.teacher import QAT, find_qat, load_teacher, shipped

IMAGES = Images(shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3, classes=tuple("abcdefghij"))

SITES = {
    "alexnet": ["conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2"],
    "lenet5": ["conv1", "conv2", "fc1", "fc2"],
    "vgg16": [f"conv{stage}_{i}" for stage, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)],
}


def saved(tmp_path, model, **arguments):
    torch.manual_seed(0)
    net = models.build(model, **arguments).eval()
    qat = prepare_qat(net, torch.randn(4, 3, 32, 32))
    calibrate(qat, [torch.randn(8, 3, 32, 32)])
    save_qat(
        tmp_path / QAT.format(model=model), qat, model=model, arguments=arguments, images=IMAGES, record={"val": 0.5}
    )
    return qat


@pytest.mark.parametrize("model", ["alexnet", "lenet5", "vgg16"])
def test_a_teacher_computes_what_was_saved_and_names_its_sites_as_the_seed(tmp_path, model):
    qat = saved(tmp_path, model, width=0.25)
    teacher = load_teacher(model, tmp_path)
    assert list(teacher.names) == SITES[model]
    assert all(point in teacher.net.points for point in teacher.points)
    assert (teacher.name, teacher.source, teacher.images) == (model, tmp_path / QAT.format(model=model), IMAGES)
    x = torch.randn(5, 3, 32, 32)
    assert torch.equal(teacher.net(x), to_integer(qat)(x))
    table = torch.arange(256, dtype=torch.uint8).expand(2, 256)
    both = teacher.net(x, tables=dict.fromkeys(teacher.points, table))
    assert torch.equal(both, teacher.net(x).repeat(2, 1))


def test_a_path_is_taken_as_it_is(tmp_path):
    saved(tmp_path, "lenet5")
    assert load_teacher(str(tmp_path / QAT.format(model="lenet5")), "nowhere").name == "lenet5"


def test_a_missing_checkpoint_names_the_file_and_the_command(tmp_path):
    with pytest.raises(DataError, match=r"vgg19_qat_preconvert\.safetensors.*train-qat --model vgg19"):
        load_teacher("vgg19", tmp_path)
    with pytest.raises(DataError, match=r"no checkpoint .*none\.safetensors"):
        find_qat(str(tmp_path / "none.safetensors"))
    with pytest.raises(ConfigError, match=r"no network 'alexnit'.*alexnet"):
        load_teacher("alexnit", tmp_path)


def test_a_network_of_the_user_needs_no_code_of_ours(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from torch import nn\n"
        "def small():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU(),"
        " nn.Flatten(), nn.Linear(196, 10))\n"
    )
    model = f"{mine}:small"
    from sparseflow.recipes.triseg.checkpoint import build_network

    net = build_network(model).eval()
    qat = prepare_qat(net, torch.randn(4, 3, 32, 32))
    save_qat(tmp_path / QAT.format(model="small"), qat, model=model, arguments={}, images=IMAGES, record={})
    teacher = load_teacher(model, tmp_path)
    assert teacher.names == ("0", "2")
    with pytest.raises(DataError, match="not in the zoo"):
        load_teacher(str(tmp_path / QAT.format(model="small")))


def test_a_network_without_sites_is_refused(tmp_path):
    qat = prepare_qat(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), torch.randn(2, 3, 32, 32))
    path = tmp_path / "plain.safetensors"
    save_qat(path, qat, model="plain.py:make", arguments={}, images=IMAGES, record={})
    with pytest.raises(DataError, match="no activation"):
        load_teacher(str(path), builder=lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))


def test_a_trained_network_ships_and_knows_images_that_it_never_saw(tmp_path):
    assert "alexnet" in shipped()
    teacher = load_teacher("alexnet", tmp_path)
    assert list(teacher.names) == SITES["alexnet"]
    images = open_splits().test.open("accuracy of the shipped network")
    assert (teacher.images.mean, teacher.images.std) == (images.mean, images.std)
    # 90 % on all test images; 500 of them leave it uncertain by 2.6 points.
    assert accuracy(teacher.net, images, torch.device("cpu")) > 0.86
