"""Kernels of the scan, the registered operator, and its refusals."""

import dataclasses

import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir import FLOAT16, Layer, Operand
from sparseflow.ops import get
from sparseflow.ops.selective_scan import OP, cpp, reference, selective_scan
from tests.ops.selective_scan.scan_cases import CASES, FIELDS, operands, true_gradients, with_gradients
from tests.ops.test_op import CPU, GPU
from tests.tolerances import assert_near


def layer(**extra):
    roles = {"input": (2, 12, 8), "weight": (1, 16), "output": (2, 12, 8)}
    return Layer(
        name="s", op="selective_scan", operands=tuple(Operand(role=r, shape=s, **extra) for r, s in roles.items())
    )


def call(given, **options):
    tensors = dict(zip(FIELDS, given.tensors(), strict=True))
    return selective_scan(**tensors, softplus=given.softplus, **options)


def test_it_is_registered():
    assert get("selective_scan") is OP


def test_refusals_have_reasons():
    found = {c.kernel: c.refusal for c in OP.candidates(layer(), CPU)}
    assert "is a cpu" in found.pop("triton")
    assert found == {"dense": None, "cpp": cpp.ABSENT}
    found = {c.kernel: c.refusal for c in OP.candidates(layer(precision=FLOAT16), CPU)}
    assert "the layer has float16" in found["cpp"]
    found = {c.kernel: c.refusal for c in OP.candidates(layer(), GPU)}
    assert "is a gpu" in found["cpp"]
    assert found["triton"] is None


def test_cost():
    assert OP.flops(layer()) == 2 * 12 * 8 * (7 * 16 + 12)
    assert OP.bytes(layer(), "cpp") == 4 * (2 * 2 * 12 * 8 + 16)


@pytest.mark.parametrize("case", CASES)
def test_the_operator_equals_the_truth(case):
    given = operands(3, 5, 4, 2, **CASES[case])
    want = reference.selective_scan(given)
    y, state = call(given, return_state=True)
    assert_near(y, want[0], "selective_scan")
    assert_near(state, want[1], "selective_scan")
    assert_near(call(given), want[0], "selective_scan")
    with torch.no_grad():
        assert_near(call(given), want[0], "selective_scan")


@pytest.mark.parametrize("case", CASES)
def test_gradcheck(case):
    given = operands(2, 3, 2, 2, **CASES[case])
    names = [n for n, t in zip(FIELDS, given.tensors(), strict=True) if t is not None]
    leaves = [getattr(given, n).detach().clone().requires_grad_() for n in names]

    def function(*values):
        return call(dataclasses.replace(given, **dict(zip(names, values, strict=True))), return_state=True)

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(case, dtype):
    given = operands(2, 3, 4, 2, dtype=dtype, **CASES[case])
    tensors = [None if t is None else t.requires_grad_() for t in given.tensors()]
    for want_state in (False, True):
        operator = torch.ops.sparseflow.selective_scan.default
        torch.library.opcheck(operator, (*tensors, given.softplus, want_state, "auto"))


def test_it_compiles_to_one_graph():
    given = operands(2, 3, 4, 2, dtype=torch.float32)
    compiled = torch.compile(lambda: call(given), backend="aot_eager", fullgraph=True)
    assert_near(compiled(), call(given), "selective_scan")


def test_a_kernel_may_be_named():
    given = operands(2, 3, 4, 2, dtype=torch.float32)
    want = reference.selective_scan(given)[0]
    assert_near(call(given, kernel="dense"), want, "selective_scan")
    if cpp.ABSENT is None:
        assert_near(call(given, kernel="cpp"), want, "selective_scan")
        with pytest.raises(UnsupportedError, match="takes float32, not"):
            call(operands(2, 3, 4, 2), kernel="cpp")
    with pytest.raises(UnsupportedError, match="'triton' cannot run: takes CUDA tensors"):
        call(given, kernel="triton")
    with pytest.raises(ConfigError, match="kernel is 'fast'"):
        call(given, kernel="fast")


def test_gradients_of_the_operator_in_float32():
    given = operands(2, 5, 20, 3, dtype=torch.float32, state=True)
    leaves = with_gradients(given)
    call(leaves, kernel="auto").square().sum().backward()
    want = true_gradients(given, 2 * reference.selective_scan(given)[0])
    for leaf, truth in zip(leaves.tensors(), want, strict=True):
        assert_near(leaf.grad, truth, "selective_scan_gradient")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("x", torch.ones(2, 3), "expected [B, K, E]"),
        ("dt", torch.ones(2, 3, 5), "dt has shape [2, 3, 5]; expected [2, 3, 4]"),
        ("A_log", torch.ones(3, 2), "expected [1, 2] or [4, 2]"),
        ("B", torch.ones(2, 3, 3), "B has shape"),
        ("D", torch.ones(3), "expected [2, 3, 4] or [4]"),
        ("initial_state", torch.ones(2, 4, 3), "expected [2, 4, 2]"),
        ("z", torch.ones(2, 3, 4, dtype=torch.int32), "z is torch.int32"),
        ("C", torch.ones(2, 3, 2, device="meta"), "on meta"),
    ],
)
def test_faulty_operands_are_named(name, value, says):
    given = operands(2, 3, 4, 2, dtype=torch.float32)
    with pytest.raises(ConfigError) as e:
        call(dataclasses.replace(given, **{name: value}))
    assert says in str(e.value)


@pytest.mark.parametrize("case", CASES)
def test_gradients_with_and_without_the_dispatcher_are_the_same(case):
    given = with_gradients(operands(2, 5, 20, 4, dtype=torch.float32, **CASES[case]))
    leaves = [t for t in given.tensors() if t is not None]

    def gradients():
        y, state = selective_scan(*given.tensors()[:7], **_rest(given), return_state=True)
        assert y.grad_fn is not None
        return type(y.grad_fn).__name__, torch.autograd.grad([y, state], leaves, [torch.ones_like(y), state.detach()])

    name, direct = gradients()
    with torch.autograd.profiler.profile():
        other, dispatched = gradients()
    assert name != other
    assert all(torch.equal(a, b) for a, b in zip(direct, dispatched, strict=True))


def test_second_derivatives_are_refused():
    given = with_gradients(operands(1, 3, 2, 2))
    y = selective_scan(*given.tensors()[:7], **_rest(given))
    (grad,) = torch.autograd.grad(y.sum(), given.x, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.grad(grad.sum(), given.x)


def _rest(given):
    return {"dt_bias": given.dt_bias, "initial_state": given.initial_state, "softplus": given.softplus}
