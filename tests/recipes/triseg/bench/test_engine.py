"""The engine beside torch's backends, on a small network."""

from pathlib import Path

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.ops.int8_net import cpp
from sparseflow.ops.triseg import tables
from sparseflow.recipes.triseg.bench.engine import EngineTimes, engine_checks, rivals, time_engine
from sparseflow.recipes.triseg.problem import inputs_of
from sparseflow.recipes.triseg.teacher import load_teacher
from tests.triseg_teachers import save_teacher, splits

pytestmark = pytest.mark.skipif(cpp.ABSENT is not None, reason=str(cpp.ABSENT))


def times(**changes: object) -> EngineTimes:
    given = {
        "model": "m", "images": 4, "threads": 1, "engine_s": {"plain": 2.0, "codes": 1.0},
        "rivals_s": {"x86": 2.0, "fbgemm": 3.0}, "ratios": {"plain": 0.9, "codes": 2.0},
        "zeros": {"plain": 0.5, "codes": 0.8},
    }  # fmt: skip
    return EngineTimes(**{**given, **changes})


def test_times_of_a_small_network(tmp_path: Path) -> None:
    save_teacher(tmp_path, steps=2)
    teacher = load_teacher("lenet5", tmp_path)
    x = inputs_of(teacher, splits().val)[:8]
    chosen = {point: tables(torch.tensor([[5, 9, 12, 20, 30]]), "clip") for point in teacher.points}
    found, unequal = time_engine(teacher, x, chosen, rounds=1)
    assert unequal == {"plain": 0, "codes": 0}
    assert set(found.engine_s) == {"plain", "codes"}
    assert {"fbgemm", "fbgemm frozen", "fbgemm channels_last"} <= set(found.rivals_s)
    assert found.zeros["codes"] > found.zeros["plain"]
    assert all(0 < s < 60 for s in (*found.engine_s.values(), *found.rivals_s.values()))
    with pytest.raises(ConfigError, match="rounds is 0"):
        time_engine(teacher, x, None, rounds=0)


def test_rivals_compute_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5))
    x = torch.randn(6, 3, 8, 8)
    before = torch.backends.quantized.engine
    with torch.no_grad():
        want = model.eval()(x)
    for name, rival in rivals(model, x).items():
        assert float((rival(x).detach() - want).abs().max()) < 0.1, name
    assert torch.backends.quantized.engine == before


def test_checks() -> None:
    checks = engine_checks(times(), {"plain": 0, "codes": 1})
    assert [check.ok for check in checks] == [True, False, True]
    assert checks[-1].name == "m, 80% zeros: time of torch (x86) over the engine's"
    assert not engine_checks(times(ratios={"plain": 0.9}, zeros={"plain": 0.5}), {})[-1].ok
