import subprocess
import sys

import pytest
import torch

import sparseflow
from sparseflow.nn.models import build


def test_the_doors_are_pinned():
    assert sparseflow.__all__ == ["__version__", "codesign", "optimize", "trace"]
    assert set(sparseflow.__all__) <= set(dir(sparseflow))


def test_trace_is_a_door_and_a_room():
    net = build("csnn", channels=4).eval()
    workload = sparseflow.trace(net, torch.rand(1, 1, 28, 28))
    assert workload.layer("features.conv2").density is not None
    assert sparseflow.trace.register is not None


def test_rooms_load_on_first_use():
    assert sparseflow.ir.Plan.__name__ == "Plan"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sparseflow.nothing


@pytest.mark.parametrize("first", ["from sparseflow.trace import capture", "from sparseflow import trace", "pass"])
def test_the_doors_open_in_any_order_of_imports(first):
    code = f"{first}\nimport sparseflow\nassert callable(sparseflow.trace) and callable(sparseflow.optimize)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_the_package_alone_loads_no_torch():
    code = "import sys, sparseflow; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
