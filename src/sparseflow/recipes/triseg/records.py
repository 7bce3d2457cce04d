"""Where the scores of a search are kept, so that one that was killed goes on."""

import hashlib
from pathlib import Path

from sparseflow.compress.approximate import attention, candidates, evaluator, reward
from sparseflow.data import ImageSet
from sparseflow.ir._json import digest
from sparseflow.recipes.triseg.problem import Problem
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.records import Key, Store, source_hash
from sparseflow.report import prepare_folder

__all__ = ["open_records", "run_folder", "score_key"]


def run_folder(config: SearchConfig) -> Path:
    """Return the folder of a search's own files, below that of all outputs; it is made.

    Raises:
        DataError: it cannot be written.
    """
    return prepare_folder(Path(config.out) / "runs" / "triseg" / Path(config.result_file).stem)


def open_records(config: SearchConfig) -> Store:
    """Return the store of a search.

    Raises:
        RecordError: it cannot be opened.
    """
    return Store(run_folder(config) / "scores.sqlite" if config.records is None else config.records)


def score_key(problem: Problem, images: ImageSet, *, run: str = "") -> Key:
    """Return the key of the scores on some images: they hold for this network, reward and code alone.

    Args:
        problem: what is searched.
        images: what the scores are taken on.
        run: tells searches apart whose scores are not to be shared.
    """
    pixels = hashlib.sha256(images.images.cpu().numpy().tobytes()).hexdigest()[:16]
    seen = {
        "checkpoint": source_hash(problem.teacher.source),
        "images": pixels,
        "sites": list(problem.names),
        "taps": list(problem.taps),
        "reward": problem.reward.to_dict(),
        "overflow": problem.overflow,
        "run": run,
    }
    device = next(problem.teacher.net.buffers()).device.type
    return Key(
        layer=f"triseg {problem.teacher.name}",
        decision="codes",
        target=device,
        protocol=digest(seen),
        source=source_hash(attention, candidates, evaluator, reward),
    )
