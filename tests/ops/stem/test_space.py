from sparseflow.ops import get
from sparseflow.ops.stem import OP


def test_it_is_registered():
    assert get("stem") is OP
    assert [kernel.name for kernel in OP.kernels] == ["dense", "triton"]
