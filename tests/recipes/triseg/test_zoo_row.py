"""One network the whole way, and again from the files of a run that was stopped."""

from pathlib import Path

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.triseg import zoo_row
from sparseflow.recipes.triseg.teacher import load_teacher
from sparseflow.recipes.triseg.train import float_file
from sparseflow.recipes.triseg.zoo_config import ZooConfig
from sparseflow.recipes.triseg.zoo_row import kinds, measured
from tests.triseg_teachers import save_teacher, splits

pytest.importorskip("cmaes")


@pytest.fixture
def out(tmp_path):
    save_teacher(tmp_path, steps=5)
    return tmp_path


def config(out, **changed):
    small = {"epochs": 1, "episodes": 4, "score_images": 8, "top": 2, "exported": 3, "judged": 50, "device": "cpu"}
    return ZooConfig(out=str(out), **(small | changed))


def test_what_was_measured_is_kept_for_the_same_settings_and_weights(out, monkeypatch):
    first = measured("lenet5", config(out))
    assert (first["trained"], first["images"], first["left"]) == (False, 50, [])
    stored = out / "runs" / "triseg" / "zoo_lenet5" / "row.json"
    before = stored.read_bytes()
    assert measured("lenet5", config(out)) == first

    calls = []
    monkeypatch.setattr(zoo_row, "_way", lambda *a: calls.append(a) or {"sites": []})
    measured("lenet5", config(out, jobs=2))
    assert (calls, stored.read_bytes()) == ([], before)
    measured("lenet5", config(out, resume=False))
    measured("lenet5", config(out, top=3))
    save_teacher(out, steps=6)
    measured("lenet5", config(out, top=3))
    assert len(calls) == 3
    stored.write_text("{")
    measured("lenet5", config(out, top=3))
    assert len(calls) == 4


def test_images_of_the_caller_are_measured_and_not_kept(out):
    row = measured("lenet5", config(out, judged=None), splits())
    assert row["images"] == 64
    assert not (out / "runs" / "triseg" / "zoo_lenet5" / "row.json").exists()


def test_a_training_that_was_stopped_goes_on(tmp_path, monkeypatch):
    """Its checkpoint is there from the first epoch, so that the file alone does not say that it is done."""
    stages, stopped = [], True

    def train_float(settings, **_):
        stages.append("float")
        float_file(settings).touch()

    def train_qat(settings, **_):
        stages.append("qat")
        save_teacher(Path(settings.out), steps=1)
        if stopped:
            raise KeyboardInterrupt

    for name, made in (("train_float", train_float), ("train_qat", train_qat), ("_way", lambda *a: {})):
        monkeypatch.setattr(zoo_row, name, made)
    with pytest.raises(KeyboardInterrupt):
        measured("lenet5", config(tmp_path))
    assert load_teacher("lenet5", tmp_path).names
    stopped = False
    assert measured("lenet5", config(tmp_path))["trained"]
    assert stages == ["float", "qat", "qat"]
    assert measured("lenet5", config(tmp_path))["trained"]
    save_teacher(tmp_path, steps=2)
    assert not measured("lenet5", config(tmp_path))["trained"]
    assert len(stages) == 3


def test_an_unknown_network_is_refused(out):
    with pytest.raises(ConfigError, match="alexnit"):
        measured("alexnit", config(out))


def test_kinds_of_a_plain_network(out):
    assert kinds(load_teacher("lenet5", out).net) == (False, False)
