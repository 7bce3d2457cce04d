import signal
import time

import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly")

from benchmarks.coverage_cpu import OutOfTime, compiled


class Slow(nn.Module):
    def forward(self, x):
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            time.sleep(0.01)
        return x


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda net: net)


def test_what_compiles_in_time_runs():
    net, x = nn.Linear(3, 2).eval(), torch.ones(1, 3)
    torch.testing.assert_close(compiled(net, x, 60.0)(), net(x).detach())


def test_a_compiler_that_takes_too_long_is_given_up():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(OutOfTime, match=r"not compiled within 0.1 s"):
        compiled(Slow(), torch.ones(1), 0.1)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_wrapped_deadline_is_known_again(monkeypatch):
    class Wraps(Slow):
        def forward(self, x):
            try:
                return super().forward(x)
            except OutOfTime as e:
                raise RuntimeError("backend failed") from e

    with pytest.raises(OutOfTime, match="not compiled"):
        compiled(Wraps(), torch.ones(1), 0.1)


def test_other_errors_are_passed_on():
    with pytest.raises(RuntimeError):
        compiled(nn.Linear(3, 2), torch.ones(1, 4), 60.0)
