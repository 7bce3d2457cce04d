"""Which source files the figures of a stage hang on: records of several commits are joined by them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.recipes.sources import Tree, differences, ids, of_commit, on_disk, used_by

__all__ = ["LEFT_OUT", "ROOT", "agreed", "present", "stage_sources"]

ROOT = Path(__file__).resolve().parents[5]
# What runs in a process of its own or is looked up by its name, and so is no import of the stage's module.
ALSO = {"coverage": ("benchmarks.coverage", "sparseflow.compress.sparsify.optimize")}
LEFT_OUT = {
    "src/sparseflow/api.py": "doors of one line: what stands behind `optimize` counts",
    "src/sparseflow/ops/__init__.py": "lists all operators: those that a stage runs are imported by themselves",
    "src/sparseflow/ops/_formulas.py": "counts operations for reports: on a GPU forms are chosen by measuring",
    "src/sparseflow/ops/_native.pyi": "stands for csrc/, which is compiled for processors: the stages run on a GPU",
    "src/sparseflow/nn/models/forecasters.py": "the zoo's table names it: no stage builds a forecaster",
    "src/sparseflow/recipes/pick.py": "only lets torchvision import beside a torch without its operators",
}
SHOWN = 20


def stage_sources(tree: Tree, stage: str) -> dict[str, str]:
    """Return the path and the git object id of each file that a stage's figures hang on.

    Args:
        tree: all sources, as `recipes.sources` reads them.
        stage: one of `settings.STAGES`.

    Raises:
        DataError: the tree has no such stage.
    """
    modules = (f"sparseflow.recipes.spike_bench.gpu.{stage}", *ALSO.get(stage, ()))
    return ids(tree, used_by(tree, modules, LEFT_OUT))


def present(stages: tuple[str, ...], root: Path = ROOT) -> dict[str, dict[str, str]]:
    """Return the sources of each stage as they lie in a checkout; none where the package is not run from one.

    Args:
        stages: the stages.
        root: the checkout.
    """
    tree = on_disk(root)
    return {stage: stage_sources(tree, stage) for stage in stages} if "benchmarks/coverage.py" in tree else {}


def agreed(bodies: Mapping[str, Mapping[str, Any]], commit: str, root: Path = ROOT) -> dict[str, str]:
    """Return the ids of the sources that the stages of all records share.

    Stages of one commit need no repository. A stage that names no ids, being
    older than they are, stands for the files of the commit that it names.

    Args:
        bodies: records by file.
        commit: the commit that stages of other commits are held against.
        root: the repository.

    Raises:
        ConfigError: a stage was measured with other sources than those of `commit`; names each file and both ids.
        DataError: there are several commits, and one is not in the repository.
    """
    stages = [(path, name, stage) for path, body in bodies.items() for name, stage in body["stages"].items()]
    of = {path: str(body.get("commit")) for path, body in bodies.items()}
    several = {str(stage.get("commit", of[path])) for path, _, stage in stages} - {commit}
    tree = cache(lambda name: of_commit(root, name))
    found: dict[str, str] = {}
    for path, name, stage in stages:
        own = str(stage.get("commit", of[path]))
        if several:
            theirs, ours = stage.get("sources") or stage_sources(tree(own), name), stage_sources(tree(commit), name)
        else:
            theirs = stage.get("sources") or {}
            ours = {file: found.get(file, known) for file, known in theirs.items()}
        _refuse(f"{path}, stage {name}: the sources of {own} are not those of {commit}", theirs, ours)
        found |= theirs
    return dict(sorted(found.items()))


def _refuse(what: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    if lines := differences(theirs, ours):
        rest = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise ConfigError(
            "\n  ".join([f"{what}; measure the stage again, or join records that agree:", *lines[:SHOWN], *rest])
        )
