"""A whole search on a small network: repeats to the byte, goes on after a kill, and never reads the test images."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sparseflow.compress.approximate import TriSegResult
from sparseflow.errors import DataError
from sparseflow.recipes.triseg.problem import pose
from sparseflow.recipes.triseg.search import SearchConfig, search
from sparseflow.recipes.triseg.search_config import SearchConfig as Settings
from tests.triseg_teachers import save_teacher, splits

pytest.importorskip("cmaes")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_teacher(folder, steps=30)
    return folder


def settings(out: Path, **more: object) -> SearchConfig:
    base = SearchConfig(
        model="lenet5", out=str(out), device="cpu", episodes=30, batch_size=16, calib_batches=1, top=4, halving=2,
        halving_images=32,
    )  # fmt: skip
    return dataclasses.replace(base, **more)  # type: ignore[arg-type]


def test_a_search_finds_chooses_and_writes(out: Path) -> None:
    given = splits()
    config = settings(out, result_file="a.json", eval_every=10)
    report = search(config, splits=given, progress=False)
    assert given.test.opened == ()
    assert report.evaluations == len(report.rewards) == 30
    assert report.rewards[0] == report.start_reward
    assert max(report.rewards) >= report.start_reward
    assert [count for count, _ in report.curve] == [10, 20, 30]
    assert len(report.finalists) == 4
    order = [f["reward_halving"] for f in report.finalists]
    assert order == sorted(order, reverse=True)

    read = TriSegResult.read(report.path, names=("conv1", "conv2", "fc1", "fc2"), model="lenet5")
    assert read == report.result
    assert read.split == "val"
    assert list(json.loads(report.path.read_text()))[:5] == ["layers", "backend", "model", "selection", "metrics"]
    # The kept one is a finalist, and its accuracy is what the network has with these tables.
    best = max(f["accuracy"] for f in report.finalists)
    assert read.metrics.acc_student == best
    problem = pose(config, splits=given)
    scores = problem.evaluator(given.val, attention=False).score(read.codes()[None])
    assert 100 * float(scores.accuracy) == read.metrics.acc_student
    body = json.loads(report.report.read_text())
    assert body["histories"]["default"][-1] == [30, max(report.rewards)]
    assert body["evaluations"] == 30


@pytest.mark.parametrize("method", ["cmaes-dp", "tpe", "ppo-original"])
def test_the_same_seed_gives_the_same_bytes_and_another_start_goes_on(out: Path, method: str) -> None:
    given = splits()
    whole = search(settings(out, method=method, result_file="whole.json", resume=False), splits=given, progress=False)
    search(settings(out, method=method, result_file=f"part_{method}.json", episodes=11), splits=given, progress=False)
    rest = search(settings(out, method=method, result_file=f"part_{method}.json"), splits=given, progress=False)
    assert rest.reused == 11
    assert rest.rewards == whole.rewards
    assert rest.path.read_bytes() == whole.path.read_bytes()
    other = search(settings(out, method=method, seed=1, result_file="other.json"), splits=given, progress=False)
    assert other.rewards[1:] != whole.rewards[1:]


_KILLED = """
import sys, time
from tests.recipes.triseg.test_search import settings, splits
from sparseflow.compress.approximate import Evaluator
from sparseflow.recipes.triseg.search import search
inner = Evaluator.score
def slow(self, codes):
    time.sleep(0.15)
    return inner(self, codes)
Evaluator.score = slow
search(settings(sys.argv[1], result_file="killed.json"), splits=splits(), progress=False)
"""


def test_a_search_that_was_killed_goes_on(out: Path) -> None:
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    records = out / "runs" / "triseg" / "killed" / "scores.sqlite"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(out)], env=environment, cwd=root)
    try:
        from sparseflow.records import Store

        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
            if records.exists() and records.stat().st_size and _count(Store, records) >= 5:
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "tri_ppo_int_codes" / "killed.json").exists()
    config = settings(out, result_file="killed.json")
    gone_on = search(config, splits=splits(), progress=False)
    whole = search(dataclasses.replace(config, result_file="fresh.json"), splits=splits(), progress=False)
    assert 5 <= gone_on.reused < 30
    assert whole.reused == 0
    assert gone_on.path.read_bytes() == whole.path.read_bytes()


def _count(store: type, path: Path) -> int:
    try:
        with store(path) as opened:
            return len(opened)
    except Exception:
        return 0


def test_every_setting_of_the_search_changes_it(out: Path) -> None:
    given = splits()
    clip = search(settings(out, overflow="clip", result_file="clip.json"), splits=given, progress=False)
    assert clip.result.overflow == "clip"
    moved = search(settings(out, tmax_reach=4, result_file="reach.json"), splits=given, progress=False)
    tops = torch.stack([torch.tensor(f["codes"])[:, 4] for f in moved.finalists])
    assert (tops != tops[0]).any() or (tops[0] != pose(settings(out), splits=given).start[:, 4]).any()
    some = search(settings(out, layers=("conv2",), result_file="some.json"), splits=given, progress=False)
    assert list(some.result.layers) == ["conv2"]


def test_missing_checkpoints_name_the_mend(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sparseflow triseg train-float --model vgg19"):
        search(Settings(model="vgg19", out=str(tmp_path)), splits=splits(), progress=False)
