"""The one-line doors of the project; each is a thin call into the rooms."""

from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import nn

from sparseflow.compress import Effort, on_cuda, optimize_spiking
from sparseflow.hardware import gpu_target, load_target
from sparseflow.ir import Report, Target, Workload
from sparseflow.records import Store
from sparseflow.trace import trace

__all__ = ["codesign", "optimize", "trace"]


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
            `select_block_size` (on GPUs with both stages of `ops.conv2d_block`: find the
            active blocks, then convolve those); or "always" for the fastest sparse form.
            The last two hold even if dense is faster.
        fuse: also try fused blocks.
        report: also return what was done.
        margin: by which fraction a kernel or a form must be faster to be taken.
        store: record store, or its path, to recall times from and keep them in.
        threads: torch threads to measure with; None leaves torch's setting.
        effort: how long to measure.
        precision: what packed layers may round, on GPUs: "fp16" weights to 11 bits; "exact"
            to 22, with float32 elsewhere; "int8" to 8 bits with a scale for each channel,
            where that is faster and spikes come out. With each layer fed the same spikes as
            the float32 one, at most 0.02 %, none and 0.3 % of a network's spikes may differ,
            or it stays dense; `parity["mismatch"]` of the report has the share. Weights on a
            grid of 8 bits may be multiplied as int8 under each of them. CPU kernels are exact
            whatever it says.
        keep_state: on GPUs, carry the neurons' potentials from call to call. False: each
            call starts at rest and the neurons must be reset before the next one, or it
            raises. None: only if the neurons run step by step (`step_mode="s"`).

    On a GPU the packed layers run as one CUDA graph for each shape of input, and are right
    at any density of spikes. Kernels were chosen for the sample's; where that is the one
    for few spikes, every call counts its spikes on the device, and above the measured
    `crossover` of the report's layer the tensor cores take over.

    Returns:
        The model to use, in eval mode; with `report=True`, and the report.

    Raises:
        CaptureError: the model is scripted, cannot be copied, rejects the sample, or
            has no graph without one; the message says what to do.
        DataError: a weight or the sample holds NaN or infinity.
        ConfigError: an argument is out of range, or the target is unknown or not where the model is.

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


def codesign(
    model: nn.Module | Workload,
    sample: Any = None,
    *,
    config: str | Path | None = None,
    out: str = "runs/codesign",
    **settings: Any,
) -> dict[str, Any]:
    """Design a wafer for a network: which chiplets it carries, who runs which layers, where they lie.

    Args:
        model: any network that `trace` takes, or its workload.
        sample: one input batch, as the model takes it; not used with a workload.
        config: YAML file of settings, see `recipes.codesign.config.CodesignConfig`.
        out: folder for the result and its log.
        **settings: settings by name, over those of the file, as `proxy="roofline"` and `slots=8`.

    Returns:
        What `codesign.json` holds: figures of the design and of the one that it is compared with, dies, segments,
        transfers. No phase of the search makes the hard objective worse.

    Raises:
        ConfigError: a setting is unknown or out of range.
        CaptureError: the model cannot be traced.
        DataError: the proxy's weights are missing; says which command makes them.

    >>> import tempfile, torch, sparseflow
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = sparseflow.codesign(
    ...         net, torch.zeros(1, 64), out=folder, proxy="roofline", types=("big_core", "small_core"), slots=4,
    ...         candidates=4, outer_epochs=1)
    >>> found["edp_ratio"] <= 1
    True
    """
    from sparseflow.recipes.codesign.config import CodesignConfig
    from sparseflow.recipes.codesign.run import codesign as run
    from sparseflow.recipes.settings import read_settings

    workload = model if isinstance(model, Workload) else trace(model, sample)
    return run(read_settings(CodesignConfig, config, out=out, **settings), workload=workload)
