import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sparseflow.ir.env import inherited
from sparseflow.recipes.video import load_trained, train_video
from tests.video_runs import TINY, dense, small_video

RUN = """
import json, sys
from sparseflow.recipes.video import VideoConfig, train_video
from sparseflow.recipes.ranks import is_first
record = train_video(VideoConfig.from_dict(json.loads(sys.argv[1])), progress=False)
if len(sys.argv) > 2:
    open(sys.argv[2] + ("first" if is_first() else "second"), "w").write(json.dumps(record))
"""
ROOT = str(Path(__file__).parents[3])


def weights(record):
    return load_trained(record["file"]).model.state_dict()


def test_the_record_and_the_checkpoint(tmp_path):
    config = small_video(tmp_path)
    record = train_video(config, progress=False)
    assert record == json.loads((config.folder / "record.json").read_text())
    assert record["synthetic"] is True
    assert record["test"]["videos"] == 24
    assert record["test"]["keeps"]["token"] == 0.5
    found = load_trained(record["file"])
    assert found.config == config
    assert len(found.classes) == 16


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    more = {"epochs": 12, "clips": 64, "model_args": TINY | {"drop_path_rate": 0.2}}
    whole = train_video(small_video(tmp_path / "whole", **more), progress=False)
    cut = small_video(tmp_path / "cut", **more)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(cut.to_dict(all=True))],
        # Sums of as many threads as here, so that their order is the same.
        env=inherited(OMP_NUM_THREADS=str(torch.get_num_threads())),
    )
    metrics, until = cut.folder / "metrics.jsonl", time.monotonic() + 90
    try:
        while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (cut.folder / "record.json").exists()
    again = train_video(cut, progress=False)
    a, b = weights(whole), weights(again)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert again["test"] == whole["test"]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    one = train_video(dense(tmp_path / "one"), progress=False)
    config = dense(tmp_path / "two")
    script = tmp_path / "run.py"
    script.write_text(RUN)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        [*line, json.dumps(config.to_dict(all=True)), str(tmp_path / "record-")],
        capture_output=True, text=True, timeout=150, check=False, env=inherited(PYTHONPATH=ROOT, OMP_NUM_THREADS="1"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"record-{name}").read_text()) for name in ("first", "second"))
    assert first == second
    assert (first["processes"], one["processes"]) == (2, 1)
    for a, b in zip(first["history"], one["history"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    p, q = weights(first), weights(one)
    for key, value in p.items():
        torch.testing.assert_close(value, q[key], rtol=1e-2, atol=1e-3)
