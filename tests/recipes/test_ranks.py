import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir.env import inherited
from sparseflow.recipes.forecast import load_forecaster, train_forecaster
from sparseflow.recipes.ranks import ALONE, Ranks, is_first, join
from tests.forecast_runs import TINY, small_config


def test_a_process_alone_does_all():
    model = nn.Linear(2, 1)
    assert ALONE.wrap(model) is model
    assert ALONE.share(7) == slice(0, 7)
    assert ALONE.sum(torch.tensor(3.0)) == 3
    assert ALONE.tell("a") == "a"
    ALONE.wait()
    ALONE.backward(model(torch.ones(1, 2)).sum())
    assert model.weight.grad.tolist() == [[1.0, 1.0]]
    assert join("cpu") == (ALONE, torch.device("cpu"))
    assert is_first()


def test_windows_are_divided_equally_or_not_at_all():
    parts = [Ranks(rank=r, count=4).share(64) for r in range(4)]
    assert [i for part in parts for i in range(64)[part]] == list(range(64))
    with pytest.raises(ConfigError, match="3 processes cannot divide"):
        Ranks(count=3).share(64)


def test_without_fabric_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert join("cpu")[0] is ALONE
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(UnsupportedError, match=r"sparseflow\[train\]"):
        join("cpu")


def test_one_process_of_torchrun_is_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join("cpu")[0] is ALONE


RUN = """
import json, sys
from sparseflow.recipes.forecast import ForecastConfig, train_forecaster
from sparseflow.recipes.ranks import is_first
record = train_forecaster(ForecastConfig.from_dict(json.loads(sys.argv[1])), progress=False)
open(sys.argv[2] + ("first" if is_first() else "second"), "w").write(json.dumps(record))
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path):
    # Without dropout both draw the same, so that only the order of sums differs.
    given = {"model_args": TINY | {"dropout": 0.0, "head_dropout": 0.0}, "epochs": 3}
    one = train_forecaster(small_config(tmp_path, **given, out=str(tmp_path / "one")), progress=False)
    config = small_config(tmp_path, **given, out=str(tmp_path / "two"))
    script = tmp_path / "run.py"
    script.write_text(RUN)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    body = json.dumps(config.to_dict(all=True))
    done = subprocess.run(
        [*line, body, str(tmp_path / "record-")], capture_output=True, text=True, timeout=120, check=False,
        env=inherited(PYTHONPATH=str(Path(__file__).parents[2]), OMP_NUM_THREADS="1"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"record-{name}").read_text()) for name in ("first", "second"))
    assert first == second
    assert (first["processes"], one["processes"]) == (2, 1)
    for a, b in zip(first["history"], one["history"], strict=True):
        assert a["val"] == pytest.approx(b["val"], rel=1e-4)
    assert first["test"]["mse"] == pytest.approx(one["test"]["mse"], rel=1e-4)
    p, q = (load_forecaster(r["file"]).model.state_dict() for r in (first, one))
    for key, value in p.items():
        torch.testing.assert_close(value, q[key], rtol=1e-2, atol=1e-3)
    # What two processes began, one goes on with.
    longer = train_forecaster(
        small_config(tmp_path, **given | {"epochs": 4}, out=str(tmp_path / "two")), progress=False
    )
    assert longer["epochs"] == 4
    assert [line["val"] for line in longer["history"][:3]] == [line["val"] for line in first["history"]]
