"""The one-line doors of the project; each is a thin call into the rooms."""

from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import nn

from sparseflow.compress import Effort, on_cuda, optimize_spiking
from sparseflow.hardware import gpu_target, load_target
from sparseflow.ir import Report, Target
from sparseflow.records import Store
from sparseflow.trace import trace

__all__ = ["optimize", "trace"]


@overload
def optimize(
    model: nn.Module,
    sample: Any = None,
    *,
    target: str | Path | Target | None = None,
    policy: str = "measured",
    fuse: bool = True,
    report: Literal[False] = False,
    margin: float = 0.02,
    store: Store | str | Path | None = None,
    threads: int | None = None,
    effort: Effort | None = None,
    precision: str = "fp16",
    keep_state: bool | None = None,
) -> nn.Module: ...


@overload
def optimize(
    model: nn.Module,
    sample: Any = None,
    *,
    target: str | Path | Target | None = None,
    policy: str = "measured",
    fuse: bool = True,
    report: Literal[True],
    margin: float = 0.02,
    store: Store | str | Path | None = None,
    threads: int | None = None,
    effort: Effort | None = None,
    precision: str = "fp16",
    keep_state: bool | None = None,
) -> tuple[nn.Module, Report]: ...


def optimize(
    model: nn.Module,
    sample: Any = None,
    *,
    target: str | Path | Target | None = None,
    policy: str = "measured",
    fuse: bool = True,
    report: bool = False,
    margin: float = 0.02,
    store: Store | str | Path | None = None,
    threads: int | None = None,
    effort: Effort | None = None,
    precision: str = "fp16",
    keep_state: bool | None = None,
) -> nn.Module | tuple[nn.Module, Report]:
    """Make a spiking network faster, and never slower.

    The model is copied; the copy runs on the sample, and every convolution and
    linear layer whose input comes from spikes is timed with each kernel on the
    spikes that it really gets. Two forms are built, one with single layers
    swapped and one of fused blocks on packed spikes, and checked against the
    original. The fastest of them and the original is returned.

    Args:
        model: a spiking network of SpikingJelly, `sparseflow.nn`, snnTorch, Norse, or
            of neurons that `sparseflow.trace.register` made known. It is never changed.
        sample: one input batch, as the model takes it: a tensor, a tuple of arguments
            or a mapping of keyword arguments. Choices are made for its shape and its
            spikes. None: layers found by symbolic trace are swapped and choose their
            kernel on their first input; nothing is fused.
        target: name or YAML path of the device, or a `Target`; None is the device that the model is on.
        policy: "measured"; "block" for the rule by the size of feature maps, see
            `select_block_size`; or "always" for the fastest sparse form even if
            dense is faster.
        fuse: also try fused blocks.
        report: also return what was done.
        margin: by which fraction a kernel or a form must be faster to be taken.
        store: record store, or its path, to recall times from and keep them in.
        threads: torch threads to measure with; None leaves torch's setting.
        effort: how long to measure.
        precision: on GPUs, "fp16", or "exact" for weights of 22 bits in packed layers and
            float32 elsewhere. CPU kernels are exact whatever it says.
        keep_state: on GPUs, carry the neurons' potentials from call to call. False: each
            call starts at rest and the neurons must be reset before the next one, or it
            raises. None: only if the neurons run step by step (`step_mode="s"`).

    On a GPU the packed layers run as one CUDA graph for each shape of input; they are
    right at any density of spikes, and only their speed was chosen for the sample's.

    Returns:
        The model to use, in eval mode; with `report=True`, and the report.

    Raises:
        CaptureError: the model is scripted, cannot be copied, rejects the sample, or
            has no graph without one; the message says what to do.
        DataError: a weight or the sample holds NaN or infinity.
        ConfigError: an argument is out of range, or the target is unknown or not where the model is.
        UnsupportedError: precision "int8", which no packed layer has.

    >>> import torch, sparseflow
    >>> from sparseflow.nn.models import build
    >>> net = build("csnn", channels=4).eval()
    >>> fast, found = sparseflow.optimize(net, torch.rand(2, 1, 28, 28), report=True)
    >>> found.captured_by, found.parity["mismatches"]
    ('fx', 0.0)
    """
    if target is None:
        device = load_target("cpu") if not on_cuda(model, sample) else gpu_target(torch.cuda.get_device_name())
    else:
        device = target if isinstance(target, Target) else load_target(target)
    records = store if store is None or isinstance(store, Store) else Store(store)
    made, found = optimize_spiking(
        model,
        sample,
        target=device,
        policy=policy,
        fuse=fuse,
        margin=margin,
        store=records,
        threads=threads,
        effort=effort,
        precision=precision,
        keep_state=keep_state,
    )
    return (made, found) if report else made
