"""How far the network of the training on codes is from the integers: at every tensor, in units of its last bit."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparseflow.ir.qspec import QSpec
from sparseflow.nn.models.cmamba import CMamba, IntRef, build_model
from sparseflow.nn.models.cmamba.fake import bind_scales
from sparseflow.nn.models.cmamba.lowering import Arrays

__all__ = ["fake_distance"]


@torch.no_grad()
def fake_distance(model: CMamba, spec: QSpec, arrays: Arrays, windows: Tensor) -> dict[str, float]:
    """Return the largest |FakeQuant − IntRef| of each tensor, free-running, in codes.

    FakeQuant runs in float64 and eval mode, the form that is held to the integers; in float32, the form that is
    trained, roundings differ.

    Args:
        model: the float network whose weights were lowered.
        spec: of its tensors.
        arrays: its integers.
        windows: readings `[B, V, L]`.

    Raises:
        ConfigError: the specification is of another network.
    """
    fake: Any = build_model(model.args, "fakeq").double().eval()
    fake.load_state_dict(model.state_dict())
    seen: dict[str, Tensor] = {}
    bind_scales(fake, spec, seen.__setitem__)
    fake(windows.double())
    taps = IntRef(model.args, arrays).taps(windows)
    return {name: float(np.abs(codes.numpy() - taps[name]).max(initial=0)) for name, codes in seen.items()}
