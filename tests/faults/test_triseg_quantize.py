"""Faults of the earlier quantised networks: random students, frozen nothings, and a network that could not run."""

import torch
from torch import nn

from sparseflow.compress.quantize.integer import to_integer
from sparseflow.compress.quantize.qat import QuantLayer, freeze_bn, prepare_qat, quantizers
from tests.quantized_nets import net


def test_the_student_gives_the_same_logits_twice_whatever_its_mode() -> None:
    """The student was left in training mode: dropout was active in every reward."""
    model, x = net("chain")
    assert any(isinstance(m, nn.Dropout) for m in model.modules())
    student = to_integer(prepare_qat(model.train(), x)).train()
    table = torch.arange(256).clamp(max=20).to(torch.uint8).view(1, -1)
    changed = {name: table for name, point in student.points.items() if point.rectified}
    torch.manual_seed(1)
    first = student(x, tables=changed)
    torch.manual_seed(2)
    assert student(x, tables=changed).equal(first)
    assert not any(isinstance(m, nn.Dropout) for m in student.modules())


def test_batch_norm_is_there_to_be_trained_and_to_be_frozen() -> None:
    """Normalisations were folded before training, so that freezing them did nothing."""
    model, x = net("chain")
    qat = prepare_qat(model, x).train()
    norms = [m.bn for m in qat.modules() if isinstance(m, QuantLayer) and m.bn is not None]
    assert len(norms) == 2
    before = [bn.running_var.clone() for bn in norms]
    qat(x * 2).square().sum().backward()
    assert not any(torch.equal(b, bn.running_var) for b, bn in zip(before, norms, strict=True))
    assert all(bn.weight.grad is not None and bn.weight.grad.abs().sum() > 0 for bn in norms)
    freeze_bn(qat)
    before = [bn.running_var.clone() for bn in norms]
    qat(x * 3).square().sum().backward()
    assert all(torch.equal(b, bn.running_var) for b, bn in zip(before, norms, strict=True))


def test_lenet_runs_on_codes() -> None:
    """LeNet had no quantiser at its input: its integer form could not be called."""
    model, x = net("lenet", batch=64)
    qat = prepare_qat(model, x)
    assert "x" in quantizers(qat)
    made = to_integer(qat)
    assert made(x).shape == (64, 10)
    assert (made(x).argmax(1) == model(x).argmax(1)).float().mean() > 0.9


def test_teacher_and_student_share_the_range_of_codes() -> None:
    """The student clamped at 127, the converted teacher at 255: outliers differed between them."""
    model, x = net("lenet")
    qat = prepare_qat(model, x)
    made = to_integer(qat)
    codes = made.codes(x * 10)
    assert all(c.max() <= 127 for c in codes.values())
    assert codes["relu"].max() == 127
    assert (made(x * 10) - qat(x * 10)).abs().max() < 1e-3
