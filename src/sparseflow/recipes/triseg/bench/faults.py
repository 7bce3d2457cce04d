"""Bad input, and a search that is killed: every error is ours and names file and mend; a killed search goes on."""

import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sparseflow.errors import SparseFlowError
from sparseflow.recipes.checks import Check
from sparseflow.recipes.triseg.evaluate import EvalConfig, evaluate
from sparseflow.recipes.triseg.records import open_records, run_folder
from sparseflow.recipes.triseg.search import search
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.recipes.triseg.teacher import QAT, Teacher

__all__ = ["fault_checks", "killed_search", "refusal"]

_GOOD = {"t1_code": 3, "v1_code": 6, "t2_code": 12, "v2_code": 20, "tmax_code": 40}
_PATIENCE_S = 600.0
_SCORES_BEFORE = 5
_EPISODES = 200
_CHILD = """
import pickle, sys
from sparseflow.recipes.triseg.search import search
search(pickle.loads(bytes.fromhex(sys.argv[1])), progress=False)
"""


def fault_checks(teacher: Teacher) -> tuple[list[Check], dict[str, list[str]]]:
    """Give bad input to searches and evaluations, kill a search with SIGKILL, and count what is wrong.

    Args:
        teacher: the network; one of the zoo, or its checkpoint must name its builder.

    Returns:
        One check a case, and what was wrong in each.
    """
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as made:
        for name, (work, said) in _cases(Path(made), teacher).items():
            found[name] = refusal(work, *said)
    found["kill -9 during a search, and again"] = killed_search(
        SearchConfig(model=str(teacher.source), episodes=_EPISODES, batch_size=16, calib_batches=2, top=4, halving=2)
    )
    return [
        Check(show="5", name=f"{name}: faults", value=float(len(faults)), unit="faults", rule="==", bound=0.0)
        for name, faults in found.items()
    ], found


def refusal(work: Callable[[], Any], *said: str) -> list[str]:
    """Return what is wrong if a call should raise one of our errors, in one line that says these words.

    >>> refusal(lambda: None, "file")
    ['nothing was raised']
    """
    try:
        work()
    except SparseFlowError as e:
        return [f"the message lacks {word!r}: {e}" for word in said if word not in str(e)]
    except Exception as e:
        return [f"an error that is not ours: {type(e).__name__}: {e}"]
    return ["nothing was raised"]


def killed_search(config: SearchConfig) -> list[str]:
    """Kill a search in a process of its own after some scores, start it again, and return what is wrong.

    It must go on from the scores in its records, and write the bytes that an undisturbed search writes.

    Args:
        config: what is searched, on images that the process can open; its `out` is not used.
    """
    with tempfile.TemporaryDirectory() as made:
        config = replace(config, out=f"{made}/killed", result_file="killed.json")
        child = subprocess.Popen([sys.executable, "-c", _CHILD, pickle.dumps(config).hex()], stderr=subprocess.DEVNULL)
        try:
            ends = time.monotonic() + _PATIENCE_S
            while child.poll() is None and time.monotonic() < ends and _scores(config) < _SCORES_BEFORE:
                time.sleep(0.05)
        finally:
            status = child.poll()
            child.kill()
            child.wait()
        if status is not None:
            return [f"the process ended by itself before it was killed, status {status}"]
        again = search(config, progress=False)
        whole = search(replace(config, out=f"{made}/whole"), progress=False)
        faults = []
        if not _SCORES_BEFORE <= again.reused < config.episodes:
            faults.append(f"{again.reused} of {config.episodes} scores came from the records")
        if again.path.read_bytes() != whole.path.read_bytes():
            faults.append("the result has other bytes than that of a search that was not killed")
        return faults


def _scores(config: SearchConfig) -> int:
    if not (run_folder(config) / "scores.sqlite").exists():
        return 0
    try:
        with open_records(config) as store:
            return len(store)
    except Exception:
        # The other process is about to make it.
        return 0


def _cases(folder: Path, teacher: Teacher) -> dict[str, tuple[Callable[[], Any], tuple[str, ...]]]:
    """Return what is tried, and the words that its error must say."""
    first, second = teacher.names[0], teacher.names[-1]
    good: dict[str, Any] = {
        "layers": {name: dict(_GOOD) for name in teacher.names},
        "backend": "fbgemm",
        "model": teacher.name,
        "selection": "constrained-best (drop=1.5% <= 2.0%)",
        "metrics": {"acc_teacher": 92.5, "acc_student": 91.0, "acc_drop": 1.5},
    }

    def measure(name: str, body: Mapping[str, Any] | str) -> Callable[[], Any]:
        path = folder / name
        path.write_text(body if isinstance(body, str) else json.dumps(body))
        return partial(evaluate, EvalConfig(model=str(teacher.source), config_path=str(path), split="val"))

    def find(**given: Any) -> Callable[[], Any]:
        return lambda: search(
            SearchConfig(**{"model": str(teacher.source), "out": str(folder), **given}), progress=False
        )

    def layers(**changed: Any) -> dict[str, Any]:
        return good | {"layers": good["layers"] | changed}

    for name in ("pictures", "damaged"):
        (folder / name).mkdir()
    qat = QAT.format(model="vgg16")
    (folder / "damaged" / qat).write_bytes(b"no safetensors")
    batches = folder / "batches" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (batches / name).write_bytes(b"\x80\x04nothing of the kind")
    without = {k: v for k, v in good["layers"].items() if k != second} | {"conv99": dict(_GOOD)}
    return {
        "a missing checkpoint": (find(model="vgg16", out=str(folder)), (qat, "train-qat")),
        "a damaged checkpoint": (find(model="vgg16", out=str(folder / "damaged")), (qat, "train-qat")),
        "no such network": (find(model="alexnit"), ("alexnit", "alexnet")),
        "a layer to search that is none": (find(layers=("conv99",)), ("conv99", first)),
        "a result for a layer that is none": (
            measure("layers.json", good | {"layers": without}), ("layers.json", "conv99", first),
        ),
        "a result with codes out of order": (
            measure("order.json", layers(**{first: _GOOD | {"t1_code": 30}})),
            ("order.json", first, "t1_code 30 is above t2_code 12"),
        ),
        "a result with a code beyond 255": (
            measure("large.json", layers(**{first: _GOOD | {"tmax_code": 300}})), ("large.json", first, "0 to 255"),
        ),
        "a result without a code": (
            measure("short.json", layers(**{first: {"t1_code": 3}})), ("short.json", first, "v1_code"),
        ),
        "a result of another network": (
            measure("other.json", good | {"model": "another"}), ("other.json", "another", teacher.name),
        ),
        "a result that is no JSON": (measure("none.json", '{"layers": '), ("none.json", "no valid JSON")),
        "a result that is missing": (
            lambda: evaluate(EvalConfig(model=str(teacher.source), config_path=str(folder / "gone.json"))),
            ("gone.json",),
        ),
        "a folder without CIFAR-10": (
            find(data=str(folder / "pictures")), ("pictures", "holds no CIFAR-10", "cifar-10-batches-py"),
        ),
        "a folder that is missing": (find(data=str(folder / "nothing")), ("nothing", "no folder")),
        "damaged batches of CIFAR-10": (find(data=str(folder / "batches")), ("data_batch_1",)),
    }  # fmt: skip
