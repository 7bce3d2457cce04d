from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparseflow.data import ImageSet
from sparseflow.recipes.graphed import Graphed
from sparseflow.recipes.triseg.config import TrainConfig
from sparseflow.recipes.triseg.step import Step, distilled, layout_of, shares
from tests.fake_cuda_graph import install

PLAIN = {"crop_padding": 0, "flip": False, "degrees": 0.0, "erasing": 0.0}


def images(n=40):
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        name="toy", split="train", images=torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8),
        labels=torch.arange(n) % 3, classes=("r", "g", "b"), mean=(0.3, 0.4, 0.5), std=(0.3, 0.2, 0.1),
    )  # fmt: skip


def make(config, device="cpu", size=16, **more):
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).to(device)
    lr = torch.tensor(0.1, device=device) if config.graph else 0.1
    optimizer = torch.optim.SGD(
        [{"params": list(net.parameters()), "lr": lr, "peak": 0.1}], lr=0.1, momentum=0.9, fused=device == "cuda"
    )
    return net, Step(net, config, images(), optimizer, size=size, cast=nullcontext, **more)


def by_hand(net, x, y, rate, momentum):
    """One step of SGD in plain torch."""
    loss = F.cross_entropy(net(x), y)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    with torch.no_grad():
        for i, (p, g) in enumerate(zip(net.parameters(), gradients, strict=True)):
            momentum[i] = g if momentum[i] is None else 0.9 * momentum[i] + g
            p -= rate * momentum[i]
    return loss.item()


def test_steps_are_those_of_plain_training():
    config = TrainConfig(**PLAIN)
    net, step = make(config)
    other, _ = make(config)
    momentum = [None] * len(list(other.parameters()))
    all_images, losses = images(), []
    x = all_images.normalize(all_images.images)
    order = step.order()
    assert [len(index) for index in order] == [16, 16]
    assert len(set(torch.cat(order).tolist())) == 32
    for index, rate in zip(order, (1.0, 0.5), strict=True):
        step(index, rate)
        losses.append(by_hand(other, x[index], all_images.labels[index], 0.1 * rate, momentum))
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert float(step.sums[0]) == pytest.approx(sum(losses), rel=1e-5)
    assert step.steps == 2
    step.restart()
    assert (step.steps, step.sums.tolist()) == (0, [0.0, 0.0])


def seen_by(config, **more):
    """Images that reach the network in one step, and the step."""
    net, step = make(config, **more)
    kept = []
    net.register_forward_pre_hook(lambda m, args: kept.append(args[0].clone()))
    step(torch.arange(16), 1.0)
    return kept[0], step


def test_mixed_batches_hold_both_images_and_labels():
    mixed, step = seen_by(TrainConfig(**PLAIN, mixup=1.0))
    plain, _ = seen_by(TrainConfig(**PLAIN))
    own = float(step.keep.mean())
    assert 0 < own < 1
    torch.testing.assert_close(mixed, own * plain + (1 - own) * plain.flip(0))


def test_cut_batches_take_a_rectangle_and_its_share_of_the_labels():
    cut, step = seen_by(TrainConfig(**PLAIN, mixup=1.0, cutmix=1.0))
    plain, _ = seen_by(TrainConfig(**PLAIN))
    own = step.keep.bool()
    assert 0 < int(own.sum()) < own.numel()
    assert torch.equal(cut, torch.where(own, plain, plain.flip(0)))
    net, _ = make(TrainConfig(**PLAIN))
    z, y, share = net(cut), images().labels[:16], float(step.keep.mean())
    expected = share * F.cross_entropy(z, y) + (1 - share) * F.cross_entropy(z, y.flip(0))
    assert float(step.sums[0]) == pytest.approx(expected.item(), rel=1e-5)


def test_shares_are_blended_or_cut_in_one_rectangle():
    torch.manual_seed(0)
    drawn = torch.stack([shares(12, 8, mixup=1.0, cutmix=1.0) for _ in range(2000)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    for keep in drawn[:200]:
        gone = keep == 0
        box = gone.any(1)[:, None] & gone.any(0)[None, :]
        assert torch.equal(gone, box)
        for line in (gone.any(1), gone.any(0)):
            assert int(line.int().diff().abs().sum()) <= 2
    # A rectangle that reaches over an edge is cut off, so that more than half is kept.
    assert 0.5 < float(drawn.mean()) < 0.75
    some = torch.stack([shares(4, 4, mixup=0.5, cutmix=0.25) for _ in range(2000)])
    is_cut = ((some == 0) | (some == 1)).all(-1).all(-1)
    assert 0.2 < float(is_cut.float().mean()) < 0.3
    assert bool((some[~is_cut].flatten(1).std(1) == 0).all())


def test_calm_steps_are_not_blanked_or_turned():
    config = TrainConfig(crop_padding=0, flip=False, degrees=30.0, erasing=1.0)
    plain, _ = seen_by(TrainConfig(**PLAIN))
    wild, _ = seen_by(config)
    assert not torch.allclose(wild, plain)
    net, step = make(config)
    kept = []
    net.register_forward_pre_hook(lambda m, args: kept.append(args[0].clone()))
    step.calm = True
    step(torch.arange(16), 1.0)
    torch.testing.assert_close(kept[0], plain)


def test_what_comes_after_a_step_is_called_once():
    calls = []
    _, step = make(TrainConfig(**PLAIN, clip=0.1), after=lambda: calls.append(1))
    step(torch.arange(16), 1.0)
    step(torch.arange(16), 1.0)
    assert calls == [1, 1]


def test_on_the_cpu_a_graph_is_a_plain_step():
    a, one = make(TrainConfig(**PLAIN))
    b, two = make(TrainConfig(**PLAIN, graph=True))
    for step in (one, two):
        step(torch.arange(16), 0.7)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_steps_are_recorded_once_and_anew_where_asked(monkeypatch):
    made = install(monkeypatch)
    net, step = make(TrainConfig(**PLAIN, graph=True))
    monkeypatch.setattr(type(step), "_recorder", lambda self: Graphed(self.run))
    step.restart(capture=True)
    for _ in range(3):
        step(torch.arange(16), 0.5)
    assert [g.replays for g in made] == [2]
    step.restart()
    step(torch.arange(16), 0.5)
    assert [g.replays for g in made] == [3]
    step.restart(capture=True)
    step(torch.arange(16), 0.5)
    assert [g.replays for g in made] == [3, 0]
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_replayed_steps_are_those_of_plain_calls():
    nets = []
    for graph in (False, True):
        net, step = make(TrainConfig(crop_padding=1, degrees=5.0, erasing=0.5, graph=graph), "cuda")
        torch.manual_seed(0)
        for _ in range(3):
            for index in step.order():
                step(index, 0.5)
        step.restart(capture=True)
        for index in step.order():
            step(index, 0.25)
        nets.append(net)
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_distillation_is_the_divergence_by_hand():
    z, t = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.0, 2.0, 0.0]])
    p, q = torch.softmax(t / 2, 1), torch.softmax(z / 2, 1)
    torch.testing.assert_close(distilled(z, t, 2.0), 4 * (p * (p / q).log()).sum())
    assert float(distilled(z, z, 3.0)) == pytest.approx(0.0, abs=1e-7)
    assert layout_of(torch.device("cpu")) is torch.contiguous_format
