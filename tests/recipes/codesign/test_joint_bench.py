import json
from pathlib import Path

import pytest

from sparseflow.recipes.codesign import joint_bench as room

CONFIGS = Path(__file__).parents[3] / "configs"


def _bench(monkeypatch, finished, *, edp=80.0, top1=0.95, rise=0.0, broken=()):
    means = {
        "full": {"edp": edp, "top1": top1}, "two_stage": {"edp": 100.0, "top1": 0.95},
        "fixed4": {"edp": 100.0, "top1": 0.95},
    }  # fmt: skip
    monkeypatch.setattr(
        room, "compare", lambda *_, **__: {"rows": [], "means": means, "rise": rise, "oscillation": 0.01}
    )
    monkeypatch.setattr(room, "codesign", lambda *_: json.loads(finished))

    def smoke(name, **_):
        if name in broken:
            raise RuntimeError("no")

    monkeypatch.setattr(room, "smoke", smoke)
    return {c["name"]: c["ok"] for c in room.bench(configs=CONFIGS)["checks"]}


def test_all_hold_where_the_joint_loop_wins(monkeypatch, finished):
    checks = _bench(monkeypatch, finished)
    assert len(checks) == 9
    assert all(checks.values())


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"edp": 95.0}, "EDP, joint against two stages"),
        ({"top1": 0.93}, "accuracy, four fixed chips less joint"),
        ({"rise": 0.1}, "largest rise of the hard objective in B, C and D"),
        ({"broken": ("P2-1",)}, "experiments that run in smoke size"),
    ],
)
def test_a_miss_is_seen(monkeypatch, finished, given, name):
    checks = _bench(monkeypatch, finished, **given)
    assert not checks[name]
