import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.nn.models.video_vit import VideoViT, save_video
from sparseflow.recipes.video import Trained, load_trained, save_trained
from tests.video_runs import TINY, small_video


def trained(tmp_path, classes=("a", "b", "c")):
    torch.manual_seed(0)
    model = VideoViT(24, 4, 3, in_chans=1, **TINY, use_ast_prune=True, ast_cfg={"keep": 0.25, "score": "motion"})
    return Trained(model=model.eval(), classes=classes, config=small_video(tmp_path), record={"seed": 1})


def test_all_of_it_comes_back(tmp_path):
    path = tmp_path / "a.safetensors"
    made = trained(tmp_path)
    save_trained(path, made)
    first = path.read_bytes()
    found = load_trained(path)
    x = torch.rand(2, 4, 1, 24, 24)
    assert torch.equal(found.model(x), made.model(x))
    assert (found.classes, found.config, found.record) == (made.classes, made.config, made.record)
    save_trained(path, found)
    assert path.read_bytes() == first


def test_what_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="make one with: sparseflow video train"):
        load_trained(tmp_path / "a.safetensors")
    save_video(tmp_path / "b.safetensors", trained(tmp_path).model)
    with pytest.raises(DataError, match="no record of a training here"):
        load_trained(tmp_path / "b.safetensors")
    save_trained(tmp_path / "c.safetensors", trained(tmp_path, classes=("a",)))
    with pytest.raises(DataError, match="names 1 classes; its network has 3"):
        load_trained(tmp_path / "c.safetensors")
