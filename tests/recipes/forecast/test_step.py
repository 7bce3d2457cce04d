from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sparseflow.data import Windows
from sparseflow.recipes.forecast.mixup import channel_mixup
from sparseflow.recipes.forecast.step import Step, make_adam
from sparseflow.recipes.graphed import Graphed
from tests.fake_cuda_graph import install


class Line(nn.Module):
    def __init__(self, length, f):
        super().__init__()
        self.map = nn.Linear(length, f)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        return self.map(self.drop(x))


def make(device="cpu", graph=False, targets=(0, 1, 2), sigma=0.5):
    torch.manual_seed(0)
    model = Line(6, 2).to(device)
    pool = Windows(torch.randn(60, 3, generator=torch.Generator().manual_seed(1)), seq_len=6, forecast_len=2)
    optimizer = make_adam(model, 0.01, graph=graph)
    step = Step(
        model, pool.to(device), optimizer, size=8, sigma=sigma, targets=targets, cast=nullcontext, graph=graph
    )  # fmt: skip
    return model, step


@pytest.mark.parametrize("targets", [(0, 1, 2), (2,), (2, 0)])
def test_steps_are_those_of_plain_training(targets):
    model, step = make(targets=targets)
    other, twin = make()
    adam = torch.optim.Adam(other.parameters(), lr=0.01)
    torch.manual_seed(5)
    order = step.order(len(step.pool))
    assert [len(i) for i in order] == [8] * 6
    assert len(set(torch.cat(order).tolist())) == 48
    torch.manual_seed(6)
    for index, rate in zip(order, (0.01, 0.02, 0.005, 0.01, 0.01, 0.01), strict=True):
        step(index, rate)
    torch.manual_seed(6)
    losses = []
    for index, rate in zip(order, (0.01, 0.02, 0.005, 0.01, 0.01, 0.01), strict=True):
        adam.param_groups[0]["lr"] = rate
        x, y = channel_mixup(*twin.pool.take(index), 0.5)
        loss = (other(x) - y)[:, list(targets)].abs().mean()
        gradients = torch.autograd.grad(loss, list(other.parameters()))
        for p, g in zip(other.parameters(), gradients, strict=True):
            p.grad = g
        adam.step()
        losses.append(loss.item())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
    assert float(step.loss) == pytest.approx(sum(losses), rel=1e-5)
    assert step.steps == 6
    step.restart()
    assert (step.steps, float(step.loss)) == (0, 0.0)


def test_an_order_may_take_the_first_windows_alone():
    _, step = make()
    order = step.order(20)
    assert [len(i) for i in order] == [8, 8]
    assert max(int(i.max()) for i in order) < 20


def test_on_the_cpu_a_graph_is_a_plain_step():
    a, one = make()
    b, two = make(graph=True)
    for step in (one, two):
        torch.manual_seed(2)
        step(torch.arange(8), 0.01)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_replayed_steps_are_those_of_plain_calls():
    models = []
    for graph in (False, True):
        model, step = make("cuda", graph)
        torch.manual_seed(0)
        for _ in range(3):
            for index in step.order(len(step.pool)):
                step(index, 0.01)
        models.append(model)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_a_recorded_step_reads_new_windows_and_draws_new_numbers(monkeypatch):
    made = install(monkeypatch)
    sides = []
    for graph in (False, True):
        _, step = make()
        # Adam counts its steps on the host unless on CUDA.
        step.optimizer = torch.optim.SGD(step.model.parameters(), lr=0.01, foreach=False)
        go = Graphed(step.run) if graph else step.run
        torch.manual_seed(4)
        order = step.order(len(step.pool))
        for i, index in enumerate(order):
            step.index.copy_(index)
            torch.manual_seed(100 + i)
            go()
            if i == 0 and not graph:
                # The stand-in also takes the step that it records.
                go()
        sides.append(step)
    for p, q in zip(sides[0].model.parameters(), sides[1].model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)
    assert float(sides[0].loss) == pytest.approx(float(sides[1].loss), rel=1e-6)
    assert [g.replays for g in made] == [len(order) - 1]
    assert all(p.grad is None for p in sides[1].model.parameters())
