"""A small forecaster in integers, with what each of its tensors holds for two windows."""

from functools import cache

import torch

from sparseflow.compress.quantize.forecaster import calibrate_forecaster
from sparseflow.nn.models.cmamba import ModelArgs, build_model
from sparseflow.nn.models.cmamba.int_ref import IntRef
from sparseflow.nn.models.cmamba.lowering import lower


@cache
def small():
    """Return QSpec, integers and golden vectors."""
    torch.manual_seed(3)
    args = ModelArgs(
        variant="official", d_model=16, n_layer=2, seq_len=32, d_state=4, num_channels=5, patch_len=8, stride=4,
        forecast_len=10, reduction_ratio=2,
    )  # fmt: skip
    model, windows = build_model(args).eval(), torch.randn(6, 5, 32)
    spec = calibrate_forecaster(model, [windows])
    arrays = lower(args, {k: v.detach().double().numpy() for k, v in model.named_parameters()}, spec)
    return spec, arrays, IntRef(args, arrays).taps(windows[:2])
