import io
import json

import pytest
import torch
from rich.console import Console

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir import Report
from sparseflow.nn.models import SpikingVGG
from sparseflow.recipes import demo as module
from sparseflow.recipes.demo import DemoConfig, demo
from sparseflow.records import Store


@pytest.fixture
def small(monkeypatch):
    """A small network with fresh weights in the place of the trained one."""

    def load(name):
        torch.manual_seed(0)
        return SpikingVGG((8, 16, "P", 16), hidden=16, steps=2).eval(), {"model": "spiking_vgg9"}

    monkeypatch.setattr(module, "load_checkpoint", load)


def _console():
    return Console(file=io.StringIO(), width=120)


def test_the_demonstration_measures_checks_and_writes(small, tmp_path):
    console = _console()
    config = DemoConfig(out=str(tmp_path / "run"), images=12, batch=4, repeats=2, compile=False, threads=1)
    body = demo(config, console=console)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["report.html", "report.json"]
    stored = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps({k: v for k, v in body.items() if k not in ("files", "wall_s")}))
    assert stored["accuracy"]["images"] == 12
    assert stored["accuracy"]["changed"] == 0
    assert stored["batch"] == 4
    assert stored["steps"] == 2
    assert {v["kind"] for v in stored["variants"]} == {"dense", "optimized"}
    assert any("--no-compile" in note for note in stored["notes"])
    assert {x["name"] for x in stored["report"]["layers"]} >= {"features.conv2", "features.conv3"}
    assert str(tmp_path / "run") in console.file.getvalue().replace("\n", "")
    kept = {r.key.decision: r.value for r in Store().records(run="demo") if r.name == body["title"]}
    assert kept["sparseflow"] == next(v["latency_s"] for v in stored["variants"] if v["kind"] == "optimized")


def test_changed_answers_are_counted_named_and_shown(small, tmp_path, monkeypatch):
    class Contrary(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot(torch.full((len(x),), 3), 10).float()

    found = Report(model="m", target="cpu")
    monkeypatch.setattr(module, "optimize_spiking", lambda *_, **__: (Contrary(), found))
    config = DemoConfig(out=str(tmp_path), images=30, batch=10, repeats=1, compile=False)
    body = demo(config, console=_console())
    changed = body["accuracy"]["changed_at"]
    assert len(changed) == body["accuracy"]["changed"] > 0
    assert len(body["samples"]) == 27 + sum(i >= 27 for i in changed)
    assert body["samples"][changed[0]]["optimized"] == "cat" != body["samples"][changed[0]]["dense"]


def test_a_quick_look_says_that_it_is_one(small, tmp_path):
    config = DemoConfig(out=str(tmp_path), images=2, batch=4, repeats=2, quick=True)
    body = demo(config, console=_console())
    assert body["notes"][0].startswith("A quick look: 2 images")
    assert body["command"].endswith("--images 2 --batch 4 --repeats 2 --quick")


def test_a_missing_compiler_is_noted(small, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "compiler_available", lambda: False)
    body = demo(DemoConfig(out=str(tmp_path), images=2, batch=2, repeats=1), console=_console())
    assert "No C++ compiler was found" in body["notes"][0]
    assert not any("compiled" in v["name"] for v in body["variants"])


@pytest.mark.parametrize("fresh", [False, True])
def test_a_second_run_recalls_the_rival_that_torch_cannot_keep(small, tmp_path, monkeypatch, fresh):
    monkeypatch.setattr(module, "compiler_available", lambda: True)
    monkeypatch.setattr(torch, "compile", lambda net, **_: net)
    first = demo(DemoConfig(out=str(tmp_path), images=4, batch=2, repeats=2), console=_console())
    again = demo(DemoConfig(out=str(tmp_path), images=4, batch=2, repeats=2, fresh=fresh), console=_console())
    name = "torch, compiled, frozen, channels_last"
    before, after = ({v["name"]: v for v in body["variants"]} for body in (first, again))
    assert before[name]["measured"] == ""
    if fresh:
        assert after[name]["measured"] == ""
        return
    assert after[name]["measured"] == first["created"]
    assert "--fresh times it anew" in after[name]["note"]
    compiled = "torch, compiled, channels_last"
    expected = before[name]["latency_s"] / before[compiled]["latency_s"] * after[compiled]["latency_s"]
    assert after[name]["latency_s"] == pytest.approx(expected)


@pytest.mark.parametrize("where", ["load_checkpoint", "optimize_spiking", "dense_variants", "measure"])
def test_an_interrupt_at_any_time_leaves_no_file(small, tmp_path, monkeypatch, where):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, where, interrupted)
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        demo(DemoConfig(out=str(tmp_path), images=2, batch=2, repeats=1, threads=threads + 1), console=_console())
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == threads


def test_an_interrupt_while_writing_keeps_the_older_report(small, tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("older")
    monkeypatch.setattr(module.pages, "write_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        demo(DemoConfig(out=str(tmp_path), images=2, batch=2, repeats=1, compile=False), console=_console())
    assert [p.read_text() for p in tmp_path.iterdir()] == ["older"]


def test_an_unwritable_folder_is_named_before_any_work(monkeypatch):
    monkeypatch.setattr(module, "load_checkpoint", None)
    with pytest.raises(DataError, match="/proc/nowhere"):
        demo(DemoConfig(out="/proc/nowhere"), console=_console())


def test_more_images_than_ship_are_refused(small, tmp_path):
    with pytest.raises(ConfigError, match="2000 images ship"):
        demo(DemoConfig(out=str(tmp_path), images=2001), console=_console())


@pytest.mark.parametrize("name", ["images", "batch", "threads", "repeats"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        DemoConfig(**{name: 0})


def test_the_command_repeats_the_configuration():
    assert DemoConfig().command == "sparseflow demo"
    config = DemoConfig(out="a b", images=5, threads=1, compile=False, quick=True)
    assert config.command == "sparseflow demo --out 'a b' --images 5 --threads 1 --no-compile --quick"
