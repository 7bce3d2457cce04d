import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.report.video import Shown, VideoRow, VideoRun


def row(name="motion", top1=0.9, keep=0.25, clips_per_s=20.0, dense=False):
    return VideoRow(
        name=name, top1=top1, low=top1 - 0.05, high=top1 + 0.02, videos=100, keep=keep, clips_per_s=clips_per_s,
        gflops=1.5, parameters=1000, dense=dense,
    )  # fmt: skip


def run(*rows, **more):
    return VideoRun(title="t", dataset="d", synthetic=True, rows=rows, **more)


def test_the_headline_compares_the_best_pruned_one_with_the_dense_one():
    dense = row("dense", top1=0.95, keep=1.0, clips_per_s=10.0, dense=True)
    assert run(row(), dense, row(top1=0.5)).headline == (
        "90.00 % with 25% of the tokens, against 95.00 % with all of them, 2.00 times the clips a second"
    )
    assert run(dense).headline == "95.00 % with 100% of the tokens"
    assert run(row()).headline == "90.00 % with 25% of the tokens"
    assert "times" not in run(row(), row("dense", keep=1.0, clips_per_s=0.0, dense=True)).headline
    with pytest.raises(ConfigError, match="at least one"):
        run()


def test_plain_data_leaves_the_pictures_out():
    shown = Shown(title="clip", right=True, strip=b"png", moving=b"png", score=b"png")
    body = run(row(), shown={"motion": (shown,)}).to_dict()
    assert body["shown"] == {"motion": [{"title": "clip", "right": True}]}
    assert json.loads(json.dumps(body))["rows"][0]["keep"] == 0.25
