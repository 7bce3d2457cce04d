import pytest
import torch

from sparseflow.errors import MeasurementError
from sparseflow.recipes.graphed import Graphed, recorded
from tests.fake_cuda_graph import install


def test_the_work_is_done_once_a_call(monkeypatch):
    made = install(monkeypatch)
    x, total, calls = torch.ones(3), torch.zeros(3), []

    def run():
        calls.append(1)
        total.add_(x)

    step = Graphed(run)
    step()
    # A capture on CUDA does nothing; the stand-in runs what it records.
    total.sub_(x)
    x.fill_(5.0)
    step()
    step()
    assert total.tolist() == [11.0] * 3
    assert len(calls) == 2
    assert [g.replays for g in made] == [2]


def test_what_cannot_be_recorded_is_said(monkeypatch):
    install(monkeypatch)

    def run():
        raise RuntimeError("a copy to the host")

    with pytest.raises(MeasurementError, match=r"copy to the host.*leave graph out"):
        Graphed(run)()


def test_a_recorded_call_keeps_what_it_reads_and_returns_its_tensors(monkeypatch):
    install(monkeypatch)
    x = torch.ones(3)
    replay = recorded(lambda: x * 2)
    assert torch.equal(replay(), torch.full((3,), 2.0))
    assert replay() is replay()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_replays_draw_new_numbers_as_plain_calls_do():
    drawn = []
    for graph in (False, True):
        x = torch.zeros(4, device="cuda")

        def run(x=x):
            x.copy_(torch.rand(4, device="cuda"))

        step = Graphed(run) if graph else run
        step()
        torch.manual_seed(3)
        for _ in range(3):
            step()
            drawn.append(x.tolist())
    assert drawn[:3] == drawn[3:]
