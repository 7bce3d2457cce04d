"""Settings of `sparseflow triseg zoo`."""

from dataclasses import asdict, dataclass
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.recipes.triseg.config import check_choice

__all__ = ["ZooConfig"]

_SPLITS = ("val", "test")
_NOT_THE_ROW = ("networks", "out", "jobs", "report", "resume")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooConfig:
    """Which networks, and how long each step takes.

    Args:
        networks: names of the zoo, or `file.py:function` of the user; none for the whole zoo.
        out: folder of the checkpoints; one that lies there is taken, others are trained.
        data: CIFAR-10, as `data.cifar10` takes it; None for the images that ship with sparseflow.
        epochs: passes of each of the two trainings.
        minutes: train for so long instead, each of both.
        batch_size: images a step of training.
        lr: peak rate of the training in float32; a tenth of it on codes.
        graph: on CUDA, replay each training step as one graph.
        episodes: configurations that a search scores.
        score_images: images that a score is taken on; the best are scored again on four times as many.
        top: finalists that are judged.
        judged: images of `val` that finalists are judged by, the first ones, which hold all classes in proportion;
            None for all.
        max_acc_drop: points of accuracy that may be lost.
        split: images of the accuracy, "val" (those of `judged`) or "test" (all).
        exported: images on which the export is compared.
        jobs: networks at a time, each in a process of its own that has its part of the threads.
        report: file for the JSON, or None.
        resume: take networks that an earlier run with the same settings, checkpoint and code has finished from its
            files.
        device: "auto", "cpu" or "cuda".
        seed: of trainings and searches.

    Raises:
        ConfigError: a number below 1, or no such split or device.
    """

    networks: tuple[str, ...] = ()
    out: str = "outputs"
    data: str | None = None
    epochs: int = 2
    minutes: float | None = None
    batch_size: int = 128
    lr: float = 0.02
    graph: bool = False
    episodes: int = 60
    score_images: int = 32
    top: int = 4
    judged: int | None = None
    max_acc_drop: float = 2.0
    split: str = "val"
    exported: int = 20
    jobs: int = 1
    report: str | None = None
    resume: bool = True
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        check_choice(self, "split", _SPLITS)
        check_choice(self, "device", ("auto", "cpu", "cuda"))
        for name in ("epochs", "batch_size", "episodes", "score_images", "top", "judged", "exported", "jobs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected at least 1")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The networks."""
        return self.networks or tuple(models.names("convnets"))

    def of_a_row(self) -> dict[str, Any]:
        """Return what decides the figures of one network, as plain data."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_THE_ROW}
