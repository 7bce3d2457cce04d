from contextlib import nullcontext

import torch

from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.video import step as under_test
from sparseflow.recipes.video.step import SUMS, Step, make_adamw
from tests.video_runs import TINY


class Plain:
    def scale(self, clips):
        return clips.float()


def network(**more):
    torch.manual_seed(0)
    return VideoViT(16, 4, 3, in_chans=1, **TINY, **more).train()


def make(model, **more):
    given = {"parts": 1, "weight": 1.0, "smoothing": 0.0, "clip": 0.0, "cast": nullcontext} | more
    return Step(model, Plain(), make_adamw(model, weight_decay=0.05, graph=False), **given)


def batch(n=6):
    g = torch.Generator().manual_seed(1)
    return torch.rand(n, 4, 1, 16, 16, generator=g), torch.arange(n) % 3


def test_parts_learn_what_the_whole_does():
    models = [network(), network()]
    for model, parts in zip(models, (1, 3), strict=True):
        learn = make(model, parts=parts)
        for _ in range(3):
            learn(*batch(), 1e-2)
        assert learn.steps == 3
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_pruners_loss_is_weighted_and_summed_up():
    cfg = {"keep_head": 0.5, "gate": "hard", "keep": 0.5}
    losses = {}
    for weight in (0.0, 100.0):
        learn = make(network(use_ast_prune=True, ast_cfg=cfg), weight=weight)
        for _ in range(20):
            learn(*batch(), 3e-2)
        losses[weight] = dict(zip(SUMS, (learn.sums / learn.steps).tolist(), strict=True))
    assert losses[0.0]["keep_token"] == losses[100.0]["keep_token"] == 0.5
    assert losses[0.0]["keep_ch"] == 1.0
    assert losses[100.0]["loss_ast"] < losses[0.0]["loss_ast"]
    assert losses[100.0]["keep_head"] < losses[0.0]["keep_head"]


def test_a_price_on_operations_lowers_what_is_learned_to_be_kept():
    cfg = {"keep": 0.5, "learn_keep": True, "keep_channel": 0.5, "lambda_token": 0.0, "lambda_ch": 0.0}
    flops = []
    for hardware in (0.0, 10.0):
        learn = make(network(use_ast_prune=True, ast_cfg=cfg), hardware=hardware)
        for _ in range(20):
            learn.restart()
            learn(*batch(), 3e-2)
        flops.append(dict(zip(SUMS, learn.sums.tolist(), strict=True))["flops"])
    assert flops[1] < 0.95 * flops[0] < 0.9


def test_gradients_are_clipped():
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    learn = Step(
        model, Plain(), optimizer, parts=1, weight=1.0, smoothing=0.1, clip=1e-3, cast=nullcontext
    )  # fmt: skip
    learn(*batch(), 1.0)
    moved = torch.cat([(p.detach() - q).flatten() for p, q in zip(model.parameters(), before, strict=True)]).norm()
    assert 0.9e-3 < float(moved) < 1.1e-3


def test_vectors_and_positions_are_not_decayed():
    model = network()
    decayed, others = make_adamw(model, weight_decay=0.1, graph=False).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)] for p in others["params"]} >= {"pos_embed", "time_embed", "norm.weight", "head.bias"}
    assert "blocks.0.mlp.fc1.weight" in {names[id(p)] for p in decayed["params"]}
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_a_recording_reads_the_same_tensors_at_each_step_until_tokens_are_left_behind(monkeypatch):
    recordings = []

    class Recorder:
        def __init__(self, run):
            self.run = run
            recordings.append(self)

        def __call__(self):
            self.run()

    monkeypatch.setattr(under_test, "Graphed", Recorder)
    pruned = {"use_ast_prune": True, "ast_cfg": {"keep": 0.5, "score": "uniform"}}
    plain, recorded = network(**pruned), network(**pruned)
    a, b = make(plain), make(recorded)
    b.recorded = True
    for i in range(4):
        x, y = batch()
        plain.pruner.idle = recorded.pruner.idle = i < 2
        a(x + i, y, 1e-2)
        b(x + i, y, 1e-2)
    assert len(recordings) == 2
    for p, q in zip(plain.parameters(), recorded.parameters(), strict=True):
        assert torch.equal(p, q)
