import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.recipes.settings import read_settings
from sparseflow.recipes.video import VideoConfig
from tests.video_runs import small_video

CONFIGS = Path(__file__).parents[2] / "configs"


def call(*words, code=0):
    found = CliRunner().invoke(app, ["video", *map(str, words)])
    assert found.exit_code == code, found.output
    return found.output


def settings(tmp_path, **more):
    import yaml

    body = small_video(tmp_path, epochs=1, **more).to_dict(all=True)
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in body.items() if v is not None}))
    return file


@pytest.mark.parametrize("command", ["train", "eval", "slice", "bench", "compare", "prove", "sample", "report"])
def test_every_command_has_help_with_examples(command):
    text = call(command, "--help")
    assert f"sparseflow video {command}" in text
    assert "Examples" in text


@pytest.mark.parametrize(
    "name",
    [
        "ast2_ucf101_dense",
        "ast2_ucf101_ast_only",
        "ast2_ucf101_ast_hw",
        "smoke_ast_ucf101",
        "video_digits",
        "video_jhmdb",
    ],
)
def test_the_settings_that_ship_are_valid(name):
    from sparseflow.recipes.video.network import build

    config = read_settings(VideoConfig, CONFIGS / f"{name}.yaml")
    # Of the large networks one block is enough to see that the arguments fit.
    small = {**config.model_args, "embed_dim": 24, "num_heads": 4, "depth": 7}
    build(read_settings(VideoConfig, CONFIGS / f"{name}.yaml", model_args=small), classes=3, channels=3)


def test_train_eval_report_and_compare(tmp_path):
    file = settings(tmp_path)
    body = json.loads(call("train", file, "--keep", "0.25", "--json"))
    assert body["config"]["ast_cfg"] == {"keep": 0.25, "score": "motion", "gate": "hard"}
    assert (Path(body["file"]).parent / "report.html").is_file()
    assert "(synthetic motion)" in call("eval", body["file"], "--device", "cpu")
    (run,) = json.loads(call("eval", body["file"], "--json"))["runs"]
    assert run["keeps"]["token"] == 0.25
    assert call("report", body["file"], "--out", tmp_path / "page", "--clips", 1).strip().endswith("report.html")
    call("train", file, "--mode", "dense_baseline", "--no-page")
    table = tmp_path / "table.json"
    text = call("compare", "--records", tmp_path, "--speed", "--out", table)
    assert "motion 0.25" in text
    assert all(row["clips_per_s"] > 0 for row in json.loads(table.read_text())["rows"])
    assert len(json.loads(table.read_text())["rows"]) == 2
    call("compare", "--records", tmp_path, "--check", code=1)
    assert "has no gates to slice by" in call("slice", body["file"], code=2)


def test_prove(tmp_path, monkeypatch):
    from sparseflow.recipes.video import prove

    monkeypatch.setattr(prove, "FAULTS", {"a missing list is named": prove.FAULTS["a missing list is named"]})
    body = json.loads(call("prove", "--json", "--out", tmp_path / "proof.json"))
    assert body["ok"]
    assert json.loads((tmp_path / "proof.json").read_text())["checks"] == body["checks"]
    gates = {"keep": 0.5, "score": "motion", "gate": "hard", "keep_head": 0.5}
    # After one epoch the gates are far from their target.
    text = call("prove", settings(tmp_path, ast_cfg=gates), "--runs", tmp_path / "runs", code=1)
    assert "head: mean of the learned factors" in text.replace("\n", " ")
    assert (tmp_path / "runs").is_dir()


def test_slice_writes_beside_the_checkpoint(tmp_path):
    body = json.loads(call("train", settings(tmp_path, ast_cfg={"keep_head": 0.5, "keep": 0.5}), "--json", "--no-page"))
    found = json.loads(call("slice", body["file"], "--json"))
    assert Path(found["file"]) == Path(body["file"]).with_name("sliced.safetensors")
    assert found["checks"][0]["ok"]
    # After one epoch the gates are far from their target.
    call("slice", body["file"], "--check", code=1)


def test_sample_and_errors(tmp_path):
    call("sample", tmp_path / "tree", "--train", 1, "--test", 1, "--frames", 2, "--side", 32)
    assert "is not empty" in call("sample", tmp_path / "tree", code=2)
    lost = next((tmp_path / "tree" / "frames").glob("*/*_g02_*/frame0001.jpg"))
    lost.write_bytes(b"")
    file = settings(tmp_path, dataset="ucf101", data=str(tmp_path / "tree"), batch_size=2, clip_lens=(2,))
    text = call("train", file, "--workers", 1, "--no-page", code=2)
    assert "is a broken frame" in text.replace("\n", "")
    assert "Traceback" not in text
    assert "two settings files" in call("train", file, "--config", file, code=2)
    assert "is no arm" in call("compare", file, "--arm", "motion", code=2)


def test_bench(tmp_path):
    out = tmp_path / "bench.json"
    words = (
        "--device",
        "cpu",
        "--frames",
        2,
        "--side",
        32,
        "--threads",
        1,
        "--repeats",
        1,
        "--no-compile",
        "--keep",
        0.25,
    )
    text = CliRunner().invoke(
        app, ["video", "bench", *map(str, words), "--form", "uniform", "--json", "--out", str(out)]
    )
    assert text.exit_code == 0, text.output
    assert [r["form"] for r in json.loads(out.read_text())["rows"]] == ["dense", "uniform"]
    assert "forms has sparse" in call("bench", "--form", "sparse", code=2)
