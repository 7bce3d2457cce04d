"""Options that the commands of `sparseflow triseg` share, under the names of the earlier project's flags."""

from pathlib import Path
from typing import Annotated

import typer

from sparseflow.cli._group import positive

__all__ = [
    "BatchSize",
    "CalibBatches",
    "Config",
    "ConfigPath",
    "Data",
    "Device",
    "Images",
    "Json",
    "Minutes",
    "Model",
    "Out",
    "Seed",
    "Split",
    "TmaxFixed",
    "TmaxMode",
    "TmaxOffset",
    "TmaxPercentile",
]

Config = Annotated[
    Path | None,
    typer.Argument(metavar="[CONFIG.yaml]", help="Settings; options override them.", show_default=False),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Network: alexnet, vgg16, vgg19, lenet5, nin, mobilenetv1, resnet18, squeezenet, or your own as "
        "file.py:function.",
        show_default="vgg16",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="CIFAR-10: cifar-10-batches-py, folders of PNG files, or sheets.", show_default="the 2000 shipped images"
    ),
]
Out = Annotated[str | None, typer.Option(help="Folder of checkpoints and results.", show_default="outputs")]
BatchSize = Annotated[int | None, typer.Option(callback=positive, help="Images a step.", show_default=False)]
CalibBatches = Annotated[
    int | None, typer.Option(callback=positive, help="Batches for the histograms.", show_default=False)
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default=False)]
Seed = Annotated[int | None, typer.Option(help="Seed; the same one gives the same files.", show_default="0")]
Minutes = Annotated[float | None, typer.Option(help="Train for so long instead of epochs.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ConfigPath = Annotated[
    str | None, typer.Option(metavar="RESULT.json", help="A result of a search.", show_default=False)
]
Split = Annotated[
    str | None, typer.Option(help="train, calib, val, or test (opened for this one figure).", show_default=False)
]
Images = Annotated[
    int | None, typer.Option("--batches", callback=positive, help="Batches to look at.", show_default=False)
]
TmaxMode = Annotated[
    str | None,
    typer.Option(
        help="share: p of all codes, so that at most 100 - p of a hundred pass, which bounds the bits; percentile: p "
        "of the codes other than 0, plus an offset, the earlier project's rule; or fixed.",
        show_default="share",
    ),
]
TmaxFixed = Annotated[int | None, typer.Option(help="tmax where the mode is fixed.", show_default="32")]
TmaxPercentile = Annotated[
    float | None, typer.Option(help="The percentile p.", show_default="96, and 90 with percentile")
]
TmaxOffset = Annotated[
    int | None, typer.Option(help="Codes above the percentile, with percentile alone.", show_default="10")
]
