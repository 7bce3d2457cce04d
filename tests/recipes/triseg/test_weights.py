"""A fine-tuned result is always read with the weights that were trained with it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sparseflow.compress.approximate import Metrics, TriSegResult
from sparseflow.errors import DataError
from sparseflow.recipes.triseg.checkpoint import build_network, read_qat, save_qat
from sparseflow.recipes.triseg.evaluate import EvalConfig, evaluate
from sparseflow.recipes.triseg.weights import weights_of
from tests.triseg_teachers import save_teacher, splits

NAMES = ("conv1", "conv2", "fc1", "fc2")
CODES = [[3, 9, 14, 22, 40]] * 4
OWN = "lenet5_finetuned_saturate_seed3.safetensors"
SAID = "finetuned (saturate, seed 3, 5 epochs)"


def result(folder: Path, name: str, *, codes: list[list[int]] = CODES, model: str = "lenet5", said: str = SAID) -> Path:
    return TriSegResult.of(
        NAMES, torch.tensor(codes), backend="fbgemm", model=model, selection=said,
        metrics=Metrics.of(50.0, 49.0), overflow="clip", split="val",
    ).write(folder / f"{name}.json")  # fmt: skip


def tune(base: Path, to: Path, *, model: str = "lenet5", codes: list[list[int]] = CODES) -> Path:
    """Write what fine-tuning would write: other weights, and the codes that they were trained with."""
    builder = (lambda **given: build_network(model, given)) if ":" in model else None
    found = read_qat(base, builder=builder)
    with torch.no_grad():
        for parameter in found.graph.parameters():
            parameter.mul_(1.05)
    record = {"codes": dict(zip(NAMES, codes, strict=True)), "acc_teacher": 0.5, "from": str(base)}
    return save_qat(to, found.graph, model=model, arguments={}, images=found.images, record=record)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    tune(save_teacher(tmp_path), tmp_path / "lenet5_finetuned_saturate_seed3.safetensors")
    return tmp_path


def test_a_searched_result_is_of_the_network_that_was_named(out: Path) -> None:
    path = result(out, "r", said="constrained-best (drop=1.0% <= 2.0%)")
    found = weights_of(TriSegResult.read(path), path, model="lenet5", out=out)
    assert found.base is found.teacher
    assert (found.teacher.source.name, found.tuned) == ("lenet5_qat_preconvert.safetensors", False)


@pytest.mark.parametrize("name", ["lenet5_finetuned_saturate_seed3", "mine"])
@pytest.mark.parametrize("model", ["lenet5", "{out}/lenet5_qat_preconvert.safetensors", f"{{out}}/{OWN}"])
def test_a_fine_tuned_result_finds_its_weights_however_the_network_is_named(out: Path, name: str, model: str) -> None:
    path = result(out, name)
    found = weights_of(TriSegResult.read(path), path, model=model.format(out=out), out=out)
    assert found.teacher.source.name == "lenet5_finetuned_saturate_seed3.safetensors"
    assert found.base is not None
    assert found.base.source.name == "lenet5_qat_preconvert.safetensors"
    assert found.tuned


def test_eval_holds_it_against_the_network_before(out: Path) -> None:
    plain = result(out, "plain", said="by hand")

    def told(path: Path, model: str) -> dict[str, Any]:
        config = EvalConfig(model=model, out=str(out), config_path=str(path), split="val", device="cpu")
        return evaluate(config, splits=splits())

    before, after = told(plain, "lenet5"), told(plain, str(out / OWN))
    for model in ("lenet5", str(out / OWN)):
        found = told(result(out, "mine"), model)
        assert found["tuned"]
        assert found["checkpoint"].endswith(OWN)
        assert found["acc_baseline"] == pytest.approx(before["acc_baseline"])
        assert found["acc_modified"] == pytest.approx(after["acc_modified"])


def test_missing_and_other_weights_are_refused_with_their_names(out: Path) -> None:
    def refused(path: Path, said: str, **more: str) -> None:
        with pytest.raises(DataError, match=said) as caught:
            weights_of(TriSegResult.read(path), path, model=more.get("model", "lenet5"), out=out)
        assert str(path) in str(caught.value)

    other = [[3, 9, 14, 22, 41]] * 4
    refused(result(out, "other", codes=other), r"holds other codes than .*seed3\.safetensors")
    lost = result(out, "lost", said="finetuned (pass, seed 9, 1 epochs)")
    refused(lost, r"no checkpoint .*lenet5_finetuned_pass_seed9\.safetensors")


def test_a_lost_start_is_told_before_test_images_are_opened(out: Path) -> None:
    (out / "lenet5_qat_preconvert.safetensors").unlink()
    given, path = splits(), result(out, "mine")
    with pytest.raises(DataError, match="network that it started from"):
        evaluate(EvalConfig(model="lenet5", out=str(out), config_path=str(path), device="cpu"), splits=given)
    assert given.test.opened == ()


def test_a_network_of_the_user_is_found_by_its_function(tmp_path: Path) -> None:
    save_teacher(tmp_path)
    source = tmp_path / "mine.py"
    source.write_text("from sparseflow.nn import models\n\n\ndef net():\n    return models.build('lenet5')\n")
    model = f"{source}:net"
    found = read_qat(tmp_path / "lenet5_qat_preconvert.safetensors")
    base = save_qat(
        tmp_path / "net_qat_preconvert.safetensors", found.graph, model=model, arguments={}, images=found.images,
        record={},
    )  # fmt: skip
    tune(base, tmp_path / "net_finetuned_saturate_seed3.safetensors", model=model)
    path = result(tmp_path, "x", model="net")
    weights = weights_of(TriSegResult.read(path), path, model=model, out=tmp_path)
    assert weights.teacher.source.name == "net_finetuned_saturate_seed3.safetensors"
    assert json.loads(weights.teacher.metadata["record"])["from"] == str(base)
