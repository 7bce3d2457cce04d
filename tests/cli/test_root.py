import subprocess
import sys
from importlib import metadata

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.recipes import demo as recipe

COMMANDS = (
    (),
    ("demo",),
    ("trace",),
    ("optimize",),
    ("spike",),
    ("spike", "train"),
    ("spike", "bench"),
    ("records",),
    ("records", "list"),
    ("records", "show"),
    ("records", "export"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command):
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if len(c) > 1 or c[:1] in (("demo",), ("trace",))], ids=" ".join
)
def test_every_help_teaches_by_example(command):
    output = CliRunner().invoke(app, [*command, "--help"]).output
    assert "Example" in output
    assert "sparseflow " + " ".join(command) in " ".join(output.split())


def test_version():
    assert CliRunner().invoke(app, ["--version"]).output == f"sparseflow {metadata.version('sparseflow')}\n"


def test_the_help_loads_no_heavy_library():
    code = (
        "import sys; from typer.testing import CliRunner; from sparseflow.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'matplotlib', 'PIL', 'jinja2'} & sys.modules.keys(); "
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_demo_passes_its_options_on(monkeypatch):
    seen = []
    monkeypatch.setattr(recipe, "demo", lambda config, console: seen.append(config) or {"speedup": 2.0})
    options = [
        "--out",
        "x",
        "--images",
        "7",
        "--batch",
        "3",
        "--threads",
        "1",
        "--repeats",
        "4",
        "--no-compile",
        "--quick",
    ]
    result = CliRunner().invoke(app, ["demo", *options, "--json"])
    assert result.exit_code == 0, result.output
    assert '"speedup": 2.0' in result.stdout
    assert seen == [
        recipe.DemoConfig(out="x", images=7, batch=3, threads=1, repeats=4, compile=False, quick=True),
    ]


def test_demo_without_options_is_the_recipe_s_own_default(monkeypatch):
    seen = []
    monkeypatch.setattr(recipe, "demo", lambda config, console: seen.append(config) or {})
    assert CliRunner().invoke(app, ["demo"]).exit_code == 0
    assert seen == [recipe.DemoConfig()]


def test_demo_refuses_a_count_below_one():
    assert CliRunner().invoke(app, ["demo", "--batch", "0"]).exit_code == 2


def test_demo_names_an_unwritable_folder_before_any_work(monkeypatch):
    monkeypatch.setattr(recipe, "load_checkpoint", None)
    result = CliRunner().invoke(app, ["demo", "--out", "/proc/nowhere"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: cannot write to run folder /proc/nowhere")
    assert "Traceback" not in result.output


def test_ctrl_c_during_the_demo_leaves_no_file(monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "load_checkpoint", interrupted)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "run")])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert list((tmp_path / "run").iterdir()) == []
