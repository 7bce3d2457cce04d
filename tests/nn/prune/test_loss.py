import pytest
import torch

from sparseflow.nn.prune.loss import KINDS, ast_loss, binary_loss

WEIGHTS = {"token": 0.1, "head": 0.1, "ch": 0.1, "block": 0.05}


def test_tracking_is_least_at_the_targets():
    targets = {"token": 0.5, "head": 0.25, "ch": 0.75, "block": 1.0}
    sparsity = {kind: torch.tensor(1 - rho) for kind, rho in targets.items()}
    assert ast_loss(sparsity, targets, WEIGHTS, "tracking") == 0
    for kind in KINDS:
        for shift in (-0.1, 0.1):
            moved = {**sparsity, kind: sparsity[kind] + shift}
            want = WEIGHTS[kind] * 0.01
            assert ast_loss(moved, targets, WEIGHTS, "tracking").item() == pytest.approx(want, abs=1e-7)


def test_spec_is_the_literal_sum():
    sparsity = dict.fromkeys(KINDS, 0.5)
    assert ast_loss(sparsity, dict.fromkeys(KINDS, 0.3), WEIGHTS, "spec").item() == pytest.approx(0.5 * 0.35)


def test_kinds_without_a_gate_do_not_count():
    assert ast_loss(dict.fromkeys(KINDS, 0.5), {}, WEIGHTS, "tracking") == 0


def test_binary():
    assert binary_loss(torch.tensor([0.0, 1.0, 1.0])) == 0
    assert binary_loss(torch.full((3,), 0.5)) == 1
