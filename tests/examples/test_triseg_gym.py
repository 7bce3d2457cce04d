import re
import sys

import pytest

pytest.importorskip("gymnasium")

from examples import triseg_gym


def test_it_runs(capsys, monkeypatch):
    monkeypatch.setattr(triseg_gym, "EPISODES", 8)
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    triseg_gym.main()
    told = capsys.readouterr().out
    assert told.startswith("even draws, 8 episodes on 16 images")
    first, last, best = (float(x) for x in re.findall(r"-\d+\.\d\d", told))
    assert best >= max(first, last)
    assert told.count("[") == 7
