"""The plain form against loops over numbers, and what the operator refuses."""

import math

import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.nn.prune import naive
from sparseflow.ops.window_entropy import reference, window_entropy


def case(batch, times, patches, channels, dtype=torch.float64):
    torch.manual_seed(times)
    members = torch.zeros(3, patches)
    members[0] = 1 / patches
    members[1, : patches // 2 + 1] = 1 / (patches // 2 + 1)
    members[2, -1] = 1
    windows = [(0, times), (0, 1), (times // 2, times)]
    return torch.randn(batch, times, patches, channels).to(dtype), windows, members


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 1, 1, 3), (2, 8, 4, 16)])
@pytest.mark.parametrize(("tau", "standardize"), [(1.0, True), (0.5, False)])
def test_plain_is_the_loop(shape, tau, standardize):
    x, windows, members = case(*shape)
    time, space = window_entropy(x, windows, members.double(), tau=tau, standardize=standardize)
    for b, sample in enumerate(x.tolist()):
        p = naive.distributions(sample, tau, standardize)
        for w, (first, last) in enumerate(windows):
            for n in range(shape[2]):
                want = naive.entropy(naive.average([p[t][n] for t in range(first, last)]))
                assert math.isclose(time[b, w, n].item(), want, abs_tol=1e-9)
        for g, row in enumerate(members.double().tolist()):
            for t in range(shape[1]):
                mixed = [
                    sum(share * p[t][n][c] for n, share in enumerate(row)) for c in range(shape[3])
                ]  # fmt: skip
                assert math.isclose(space[b, t, g].item(), naive.entropy(mixed), abs_tol=1e-9)


def test_gradient():
    x, windows, members = case(1, 3, 4, 5)
    assert torch.autograd.gradcheck(lambda t: window_entropy(t, windows, members), x.requires_grad_())


def test_no_groups():
    x, windows, members = case(2, 3, 4, 5)
    assert window_entropy(x, windows, members[:0])[1].shape == (2, 3, 0)


def test_half_precision_is_computed_in_float32():
    x, windows, members = case(2, 3, 4, 64, torch.bfloat16)
    time, space = window_entropy(x, windows, members)
    assert time.dtype == space.dtype == torch.float32
    want = window_entropy(x.double(), windows, members)
    assert float((time - want[0]).abs().max()) < 1e-5
    assert float((space - want[1]).abs().max()) < 1e-5


def test_large_numbers_do_not_overflow():
    p = reference.distributions(torch.tensor([1e4, -1e4, 0.0]), standardize=False)
    assert p.tolist() == [1.0, 0.0, 0.0]
    assert bool(reference.entropy(p).isfinite())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": torch.zeros(2, 3, 4)}, "B, T, N, C"),
        ({"x": torch.zeros(1, 3, 4, 5, dtype=torch.int32)}, "torch.int32"),
        ({"windows": [(1, 1)]}, "within 3 times"),
        ({"windows": [(0, 4)]}, "within 3 times"),
        ({"windows": []}, "none"),
        ({"members": torch.zeros(2, 5)}, r"\[G, 4\]"),
        ({"members": torch.zeros(2, 4, dtype=torch.bfloat16)}, "members is torch.bfloat16"),
        ({"kernel": "fast"}, "kernel is 'fast'"),
    ],
)
def test_faulty_operands_are_named(change, says):
    given = {"x": torch.zeros(1, 3, 4, 5), "windows": [(0, 3)], "members": torch.zeros(2, 4), **change}
    with pytest.raises(ConfigError, match=says):
        window_entropy(**given)


def test_a_named_kernel_must_run():
    with pytest.raises(UnsupportedError, match="takes CUDA tensors"):
        window_entropy(torch.zeros(1, 3, 4, 5), [(0, 3)], torch.zeros(2, 4), kernel="triton")
    with pytest.raises(UnsupportedError, match="no gradient"):
        window_entropy(torch.zeros(1, 3, 4, 5, requires_grad=True), [(0, 3)], torch.zeros(2, 4), kernel="triton")
