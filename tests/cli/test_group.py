import pytest
import typer
from typer.testing import CliRunner

from sparseflow.cli._group import make_app, positive, show_checks, wide_console
from sparseflow.errors import DataError

app = make_app("An app.")


@app.callback()
def root(debug: bool = False):
    """Hold the option."""


@app.command()
def ours():
    """Fail with an error of ours, over two lines."""
    raise DataError("the file\nis damaged")


@app.command()
def stopped():
    """Get interrupted."""
    raise KeyboardInterrupt


@app.command()
def bug():
    """Fail with a bug."""
    raise ZeroDivisionError("x")


@app.command()
def leave():
    """Leave with a status."""
    raise typer.Exit(1)


def test_our_errors_are_one_line_on_stderr_and_status_2():
    result = CliRunner().invoke(app, ["ours"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "error: the file is damaged\n"


def test_debug_lets_the_traceback_through():
    result = CliRunner().invoke(app, ["--debug", "ours"])
    assert isinstance(result.exception, DataError)


def test_an_interrupt_is_said_cleanly_and_has_status_130():
    result = CliRunner().invoke(app, ["stopped"])
    assert result.exit_code == 130
    assert result.stderr == "interrupted: nothing was left half-written\n"


def test_a_bug_is_not_hidden():
    assert isinstance(CliRunner().invoke(app, ["bug"]).exception, ZeroDivisionError)


def test_a_status_of_a_command_is_kept():
    assert CliRunner().invoke(app, ["leave"]).exit_code == 1


def test_no_command_shows_the_help():
    assert "An app." in CliRunner().invoke(app, []).output


def test_positive():
    assert positive(None) is None
    assert positive(3) == 3
    with pytest.raises(typer.BadParameter, match="0 is not 1 or more"):
        positive(0)


def test_tables_are_wide_where_the_output_is_no_terminal():
    assert wide_console().width >= 100


def test_checks_are_counted_and_a_missing_value_is_a_dash(capsys):
    holds = {"name": "fast", "value": 3.5, "unit": "x", "target": ">= 3", "ok": True}
    show_checks([holds, {**holds, "name": "slow", "value": None, "ok": False}])
    out = capsys.readouterr().out
    assert "3.5 x" in out
    assert "–" in out
    assert "1 of 2 checks hold" in out
