"""The command group: our errors in one line, exit codes that scripts can use."""

import os
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from sparseflow.errors import SparseFlowError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Group", "make_app", "positive", "show_checks", "wide_console"]

_BAD_INPUT = 2
_INTERRUPTED = 130


class Group(TyperGroup):
    """Turns what commands raise into messages and exit codes.

    0: done. 1: a check did not hold, or a bug (with traceback). 2: bad input
    or an error of ours, in one line. 130: interrupted.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command; `--debug` lets errors through with their traceback."""
        try:
            return super().invoke(ctx)
        except SparseFlowError as e:
            if ctx.find_root().params.get("debug"):
                raise
            _say(f"error: {' '.join(str(e).split())}")
            raise typer.Exit(_BAD_INPUT) from e
        except KeyboardInterrupt as e:
            _say("interrupted: nothing was left half-written")
            raise typer.Exit(_INTERRUPTED) from e
        except BrokenPipeError as e:
            # The reader of a pipe has gone; say nothing, and keep the interpreter from saying it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from e


def make_app(text: str) -> typer.Typer:
    """Return an empty app with our conventions."""
    return typer.Typer(
        help=text,
        cls=Group,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def positive(value: int | None) -> int | None:
    """Check a count given on the command line.

    Raises:
        typer.BadParameter: below 1.
    """
    if value is not None and value < 1:
        raise typer.BadParameter(f"{value} is not 1 or more")
    return value


def wide_console() -> "Console":
    """Return a console for tables: as wide as the terminal, or wide enough where the output is a file."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def show_checks(checks: list[dict[str, Any]]) -> None:
    """Print the checks of a bench as a table, and how many hold."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="checks", title_justify="left")
    for column in ("", "check"):
        table.add_column(column, overflow="fold")
    for column in ("value", "target"):
        table.add_column(column, justify="right")
    for c in checks:
        value = c["value"]
        shown = "–" if value is None else f"{value:.4g} {c['unit']}".strip()
        table.add_row("[green]✓[/]" if c["ok"] else "[red]✗[/]", c["name"], shown, str(c["target"]))
    console = Console(highlight=False)
    console.print(table)
    kept = sum(bool(c["ok"]) for c in checks)
    console.print(f"{kept} of {len(checks)} checks hold", style="green" if kept == len(checks) else "red")


def _say(text: str) -> None:
    typer.secho(text, err=True, fg=typer.colors.RED)
