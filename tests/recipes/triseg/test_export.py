"""Exports of a trained network, with and without codes, and results that do not fit."""

from pathlib import Path

import pytest
import torch

from sparseflow.compress.approximate import Metrics, TriSegResult, initial_codes
from sparseflow.errors import ConfigError, DataError, MeasurementError
from sparseflow.export import read_plan
from sparseflow.ops.int8_net import cpp, reference
from sparseflow.recipes.triseg import export as module
from sparseflow.recipes.triseg.export import ExportConfig, export
from sparseflow.recipes.triseg.problem import inputs_of
from sparseflow.recipes.triseg.teacher import load_teacher
from tests.triseg_teachers import save_teacher, splits

NAMES = ("conv1", "conv2", "fc1", "fc2")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_teacher(folder, steps=5)
    return folder


def result(names: tuple[str, ...] = NAMES, model: str = "lenet5") -> TriSegResult:
    return TriSegResult.of(
        names, initial_codes([35] * len(names)), backend="fbgemm", model=model, selection="best-accuracy (x)",
        metrics=Metrics.of(50.0, 49.0), overflow="clip",
    )  # fmt: skip


def test_files_compute_what_the_network_computes(out: Path) -> None:
    result().write(out / "tri_ppo_int_codes" / "result.json")
    given = splits()
    body = export(ExportConfig(model="lenet5", out=str(out), images=60), splits=given)
    count = min(60, len(given.train) + len(given.calib) + len(given.val))
    for kind in ("engine", "c") if cpp.ABSENT is None else ("c",):
        assert body["checks"][kind] in ({"images": count, "unequal": 0}, "no C compiler")
    assert body["checks"]["reference"]["unequal"] == 0
    assert given.test.opened == ()
    assert all(Path(path).stat().st_size == size for path, size in body["files"].items())
    teacher = load_teacher("lenet5", out)
    program = read_plan(out / "export" / "lenet5" / "lenet5.plan.safetensors")
    assert '"selection": "best-accuracy (x)"' in program.metadata["result"]
    chosen = module.chosen_tables(teacher, result(), out)
    x = inputs_of(teacher, given.val)[:5]
    assert torch.equal(reference.run(program, x), teacher.net(x, tables=chosen))
    assert not torch.equal(reference.run(program, x), teacher.net(x))


def test_an_onnx_file_is_compared_too(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    result().write(out / "tri_ppo_int_codes" / "result.json")
    config = ExportConfig(model="lenet5", out=str(out), folder=str(tmp_path), formats=("onnx",), images=20)
    body = export(config, splits=splits())
    assert list(body["files"]) == [str(tmp_path / "lenet5.onnx")]
    assert body["checks"]["onnx"] == {"images": 20, "unequal": 0}
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert "pip install onnxruntime" in export(config, splits=splits())["checks"]["onnx"]


def test_a_pt2e_file_is_compared_by_classes(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchao")
    result().write(out / "tri_ppo_int_codes" / "result.json")
    config = ExportConfig(model="lenet5", out=str(out), folder=str(tmp_path), formats=("pt2e",), images=20)
    body = export(config, splits=splits())
    assert list(body["files"]) == [str(tmp_path / "lenet5.pt2")]
    assert body["checks"]["pt2e"]["images"] == 20
    assert body["checks"]["pt2e"]["other_class"] <= 1
    true_run = module.run_pt2e
    monkeypatch.setattr(module, "run_pt2e", lambda path, x: -true_run(path, x))
    with pytest.raises(MeasurementError, match="another class than Python on 20 of 20 images"):
        export(config, splits=splits())


def test_the_plain_network_and_one_format(out: Path, tmp_path: Path) -> None:
    config = ExportConfig(model="lenet5", out=str(out), plain=True, folder=str(tmp_path), formats=("plan",), images=0)
    body = export(config)
    assert list(body["files"]) == [str(tmp_path / "lenet5.plan.safetensors")]
    assert body["config_path"] is None
    assert "checks" not in body
    assert all(step.table is None for step in read_plan(tmp_path / "lenet5.plan.safetensors").steps)


def test_what_does_not_fit_is_named(out: Path, tmp_path: Path) -> None:
    def with_result(found: TriSegResult) -> ExportConfig:
        path = found.write(tmp_path / "other.json")
        return ExportConfig(model="lenet5", out=str(out), config_path=str(path), images=0)

    with pytest.raises(DataError, match=r"other\.json is for model 'vgg16', not 'lenet5'"):
        export(with_result(result(model="vgg16")))
    with pytest.raises(DataError, match="layer 'conv9' is no site of 'lenet5'; there are conv1"):
        export(with_result(result(("conv1", "conv9"))))
    with pytest.raises(DataError, match="cannot read"):
        export(ExportConfig(model="lenet5", out=str(out), config_path=str(tmp_path / "nowhere.json")))
    with pytest.raises(ConfigError, match="expected some of plan, c, onnx"):
        ExportConfig(formats=("tflite",))
    with pytest.raises(ConfigError, match="images is -1"):
        ExportConfig(images=-1)
    with pytest.raises(ConfigError, match="leave config_path out"):
        ExportConfig(plain=True, config_path="x.json")
