"""What kernels of an integer network take and cost."""

from sparseflow.ir import Layer
from sparseflow.ops import get
from sparseflow.ops.int8_net import OP, cpp
from sparseflow.ops.int8_net.space import plan_bytes
from tests.ops.int8_net.test_program import small
from tests.ops.test_op import CPU, GPU


def test_it_is_registered_and_refuses_with_reasons():
    layer = Layer(name="n", op="int8_net", operands=())
    assert get("int8_net") is OP
    assert OP.kernel("dense").refuses(layer, GPU) is None
    assert OP.kernel("cpp").refuses(layer, CPU) == cpp.ABSENT
    assert "is a gpu" in str(OP.kernel("cpp").refuses(layer, GPU))


def test_bytes():
    found = plan_bytes(small())
    assert found["weights"] == 2 * 27 + 7 * 40
    assert found["factors"] == 4 * (2 + 2 + 7 + 7) + 256
    assert found["codes"] == 60 + (60 + 40) + (40 + 4 * 7)
