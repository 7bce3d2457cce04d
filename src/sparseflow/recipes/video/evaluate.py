"""Score trained video transformers, one or one a seed, on all videos of their test."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.recipes.device import device_of, multiply_as
from sparseflow.recipes.video.checkpoint import load_trained
from sparseflow.recipes.video.score import score
from sparseflow.recipes.video.sources import open_sources

__all__ = ["evaluate"]


def evaluate(
    checkpoints: Sequence[str],
    *,
    data: str | None = None,
    device: str = "auto",
    precision: str = "float32",
    batch_size: int = 64,
    workers: int = 0,
) -> dict[str, Any]:
    """Return accuracy, its interval, and what was kept, of each checkpoint.

    Args:
        checkpoints: files of `train_video` or of `slice_video`.
        data: folder of the data set; None for where it lay in the training.
        device: "auto", "cpu" or "cuda".
        precision: of the products.
        batch_size: clips a call.
        workers: processes that read videos.

    Returns:
        `runs`, one a checkpoint: file, task, seed, `synthetic`, parameters and the fields of `score.Scores`.

    Raises:
        ConfigError: no checkpoint.
        DataError: a checkpoint or a clip cannot be read, or the data has other classes; names it.
        MeasurementError: a logit is not finite.
    """
    if not checkpoints:
        raise ConfigError("no checkpoint to score; name at least one")
    where = device_of(device)
    runs = []
    for path in checkpoints:
        found = load_trained(path)
        config = replace(found.config, workers=workers, validate=False, data=data or found.config.data)
        (test,) = open_sources(config, where, roles=("test",))
        if test.classes != found.classes:
            raise ConfigError(f"{path} knows {', '.join(found.classes)}; the data holds {', '.join(test.classes)}")
        model = found.model.to(where)
        with multiply_as(precision, where, auto="bfloat16") as cast:
            scores = score(model, test, batch_size=batch_size, cast=cast)
        runs.append(
            {
                "file": str(path),
                "task": config.title,
                "seed": config.seed,
                "synthetic": test.synthetic,
                "parameters": sum(p.numel() for p in model.parameters()),
                **scores.to_dict(),
            }
        )
    return {"runs": runs}
