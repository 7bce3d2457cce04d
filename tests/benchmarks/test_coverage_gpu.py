import subprocess
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly")

from benchmarks.coverage_gpu import locked, rivals


def test_every_eager_form_computes_the_forward_and_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    x = torch.rand(2, 3, 6, 6)
    before = net[0].weight.clone()
    found, failures = rivals(net, x, compile=False)
    assert set(found) | set(failures) == {"eager float32", "eager float16"}
    torch.testing.assert_close(found["eager float32"](), net(x))
    assert net[0].weight.dtype == torch.float32
    assert torch.equal(net[0].weight, before)


def test_a_form_that_breaks_is_noted():
    class Picky(nn.Module):
        def forward(self, x):
            if x.dtype == torch.float16:
                raise RuntimeError("float32 only")
            return x

    found, failures = rivals(Picky(), torch.ones(1), compile=False)
    assert list(found) == ["eager float32"]
    assert "float32 only" in failures["eager float16"]


def test_one_process_at_a_time_holds_the_lock(tmp_path):
    path = str(tmp_path / "lock")
    probe = (
        "import fcntl, sys\n"
        f"f = open({path!r}, 'a')\n"
        "try:\n    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError:\n    sys.exit(3)\n"
    )
    with locked(path):
        assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 3
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
    with locked(None):
        pass
