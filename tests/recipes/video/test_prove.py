import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.video import prove as under_test
from sparseflow.recipes.video.prove import prove
from tests.video_runs import TINY, small_video

GATES = {"keep": 0.5, "score": "motion", "gate": "hard", "keep_head": 0.5, "keep_channel": 0.5, "keep_block": 0.67}


@pytest.fixture(autouse=True)
def few_faults(monkeypatch):
    monkeypatch.setattr(under_test, "FAULTS", {"a missing list is named": under_test.FAULTS["a missing list is named"]})


def test_without_a_training():
    said = []
    body = prove(say=said.append)
    assert body["ok"]
    assert [c["show"] for c in body["checks"]] == ["1"] * 9 + ["6"]
    assert len(said) == 10
    assert body["record"] is None
    json.dumps(body, allow_nan=False)


def test_a_training_is_timed_anew_and_its_shares_are_held(tmp_path):
    config = small_video(tmp_path, epochs=1, ast_cfg=GATES, model_args={**TINY, "depth": 3})
    for _ in range(2):
        body = prove(config, progress=False)
        found = {c["name"]: c for c in body["checks"]}
        assert len(body["record"]["history"]) == 1
        assert found["the training, with its test"]["ok"]
        assert found["token: share kept in the test, distance from the target"]["ok"]
        # An epoch brings no gate to its target, and the proof says so.
        assert not found["head: mean of the learned factors, distance from the target"]["ok"]
        assert not body["ok"]


def test_a_network_without_gates_has_no_shares_to_hold(tmp_path):
    with pytest.raises(ConfigError, match="no gates"):
        prove(small_video(tmp_path, epochs=1), progress=False)


def test_a_wrong_score_is_seen(monkeypatch):
    monkeypatch.setattr("sparseflow.nn.prune.naive.entropy", lambda q: 1.001 * sum(q))
    assert not any(c["ok"] for c in prove()["checks"][:4])
