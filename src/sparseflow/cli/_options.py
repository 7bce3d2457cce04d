"""Options that commands of several groups share."""

from pathlib import Path
from typing import Annotated

import typer

from sparseflow.errors import ConfigError

__all__ = ["Check", "Config", "Device", "File", "Json", "settings_file"]

File = Annotated[
    Path | None,
    typer.Argument(metavar="[CONFIG.yaml]", help="Settings; options override them.", show_default=False),
]
Config = Annotated[Path | None, typer.Option(help="The same settings file.", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Check = Annotated[bool, typer.Option("--check", help="Exit with 1 if a figure misses its target.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]


def settings_file(file: Path | None, config: Path | None) -> Path | None:
    """Return the settings file, named as an argument or by `--config`; None for neither.

    Raises:
        ConfigError: both are given.
    """
    if file is not None and config is not None:
        raise ConfigError("two settings files are named; give one")
    return file or config
