from contextlib import nullcontext

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.device import device_of, multiply_as

CPU = torch.device("cpu")


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_devices_are_found(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == CPU
    with pytest.raises(ConfigError, match="no CUDA"):
        device_of("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto").type == device_of("cuda").type == "cuda"
    assert device_of("cpu") == CPU
    with pytest.raises(ConfigError, match="'tpu'"):
        device_of("tpu")


@pytest.mark.parametrize(
    ("precision", "device", "auto", "tf32"),
    [
        ("auto", "cpu", "tf32", False),
        ("auto", "cuda", "tf32", True),
        ("auto", "cuda", "float32", False),
        ("tf32", "cpu", "tf32", True),
        ("float32", "cuda", "tf32", False),
    ],
)
def test_the_flags_of_torch_hold_inside_alone(precision, device, auto, tf32):
    before = flags()
    with multiply_as(precision, torch.device(device), auto=auto) as cast:
        assert flags() == (tf32, tf32)
        assert cast is nullcontext
    assert flags() == before


def test_bfloat16_is_cast_to_and_flags_come_back_after_an_error():
    before = flags()
    x = torch.ones(2, 2)
    with multiply_as("bfloat16", CPU) as cast, cast():
        assert (x @ x).dtype == torch.bfloat16

    def fail():
        with multiply_as("tf32", CPU):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert flags() == before
    with pytest.raises(ConfigError, match="int4"), multiply_as("int4", CPU):
        pass
