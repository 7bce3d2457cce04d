"""The random check finds what it must find."""

import dataclasses

import pytest
import torch

from sparseflow.ops import conv2d_spike as ops
from sparseflow.ops.conv2d_spike.check import check, draw


def test_cases_cover_what_they_promise():
    cases = [draw(seed) for seed in range(200)]
    assert {c.kernel_size[0] for c in cases} == {1, 3, 5, 7}
    assert {c.geometry.stride for c in cases} == {(1, 1), (2, 2)}
    assert {c.geometry.dilation for c in cases} == {(1, 1), (2, 2)}
    assert {c.steps for c in cases} == set(range(1, 17))
    assert {c.residual for c in cases} == {"", "floats", "spikes"}
    assert any(c.geometry.groups == c.channels > 1 for c in cases)
    assert any(1 < c.geometry.groups < c.channels for c in cases)
    assert any(c.channels % 32 for c in cases)
    assert any(c.size[0] % 2 and c.size[1] % 2 for c in cases)
    neurons = {(c.params.kind, c.params.v_reset is None, c.params.decay_input) for c in cases}
    assert len(neurons) == 8


@pytest.mark.parametrize("kernel", ["dense"])
def test_the_reference_holds(kernel):
    outcome = check(draw(5), kernel)
    assert outcome.ok
    assert outcome.refusal is None
    assert outcome.spikes > 0


def test_a_wrong_kernel_is_caught(monkeypatch):
    case = dataclasses.replace(draw(5), density=0.2)
    right = ops.conv_lif
    monkeypatch.setattr(ops, "conv_lif", lambda words, *a, **k: right(torch.zeros_like(words), *a, **k))
    assert not check(case, "dense").ok
