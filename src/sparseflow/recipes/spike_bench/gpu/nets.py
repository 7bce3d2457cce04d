"""The networks of the GPU bench: trained ones where files are given, else random ones that are alive."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow import data
from sparseflow.compress import Effort, on_cuda, optimize_spiking
from sparseflow.errors import ConfigError
from sparseflow.hardware import gpu_target, load_target
from sparseflow.ir import Report
from sparseflow.nn import models
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import SpikingNode
from sparseflow.recipes.spike_bench.gpu.dense import enliven, neuron_params

__all__ = [
    "CLAIMS", "Claim", "NetCase", "WithReset", "densities", "images", "load_trained", "net_cases", "optimized",
    "spikingjelly_net", "synthetic",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is claimed of one network.

    Args:
        builder: its builder in the zoo.
        over_dense: least speed-up over the best dense rival, many images at once.
        over_eager: least speed-up over eager float32.
        single: least speed-up over the best dense rival with one image.
    """

    builder: str
    over_dense: float
    over_eager: float
    single: float = 1.5


CLAIMS = (
    Claim(builder="sew_resnet18", over_dense=1.5, over_eager=6.0),
    Claim(builder="spiking_resnet50", over_dense=2.0, over_eager=10.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetCase:
    """A network with images that it takes.

    Args:
        name: label.
        builder: its builder in the zoo.
        model: in eval mode on the device.
        x: images `[N, 3, S, S]` on the device.
        trained: its weights were trained.
        claim: what is claimed of it, or None.
        record: of its training.
        path: the file of its weights; empty for random ones.
    """

    name: str
    builder: str
    model: nn.Module
    x: Tensor
    trained: bool
    claim: Claim | None = None
    record: dict[str, Any] = field(default_factory=dict)
    path: str = ""


class WithReset(nn.Module):
    """A network whose state is cleared before every forward.

    Args:
        net: the network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._resets: list[Callable[[], None]] | None = None

    def forward(self, x: Tensor) -> Any:
        """Reset, then run."""
        if self._resets is None:
            # Found once: looking through a deep network takes longer than to run it.
            self._resets = [cast(Any, m).reset for m in self.net.modules() if callable(getattr(type(m), "reset", None))]
        for reset in self._resets:
            reset()
        return self.net(x)


def images(count: int, side: int, device: torch.device) -> Tensor:
    """Return shipped test images, normalised and scaled to `side`, repeated where there are too few."""
    subset = data.cifar10_subset()
    x = subset.normalize(subset.images[:count]).to(device)
    if side != x.shape[-1]:
        x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
    return x.repeat(-(-count // len(x)), 1, 1, 1)[:count]


def synthetic(builder: str, side: int, count: int, device: torch.device, *, steps: int = 4, seed: int = 0) -> NetCase:
    """Return a network with random weights in which every neuron fires at about 10 %."""
    given: dict[str, Any] = {"steps": steps}
    if "stem" in models.arguments(builder):
        given["stem"] = "imagenet" if side >= 64 else "cifar"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.build(builder, **given)
    model = model.to(device).eval()
    x = images(count, side, device)
    reached = enliven(model, x[: min(8, count)])
    claim = next((c for c in CLAIMS if c.builder == builder), None)
    record = {"weights": "random, batch norms set so that every neuron fires at 10 %", "reached": reached}
    name = f"{builder} @{side}, random weights"
    return NetCase(name=name, builder=builder, model=model, x=x, trained=False, claim=claim, record=record)


def load_trained(name_or_path: str, count: int, device: torch.device) -> NetCase:
    """Return a trained network of a checkpoint, with images of the size that it was trained on.

    Raises:
        DataError: the file cannot be read.
    """
    checkpoint = models.read_checkpoint(name_or_path)
    model = models.build(checkpoint.model, **checkpoint.arguments)
    checkpoint.load_into(model)
    given = checkpoint.arguments
    side = int(given.get("image_size", 224 if given.get("stem") == "imagenet" else 32))
    claim = next((c for c in CLAIMS if c.builder == checkpoint.model), None)
    return NetCase(
        name=f"{checkpoint.model} @{side}, trained",
        builder=checkpoint.model,
        model=model.to(device).eval(),
        x=images(count, side, device),
        trained=True,
        claim=claim,
        record={k: checkpoint.record.get(k) for k in ("test_accuracy", "dataset", "density")},
        path=name_or_path,
    )


def net_cases(
    checkpoints: Sequence[str],
    count: int,
    device: torch.device,
    *,
    side: int = 224,
    seed: int = 0,
    errors: dict[str, str] | None = None,
    builders: Sequence[str] | None = None,
) -> list[NetCase]:
    """Return every trained network given, and a synthetic one for each claim without a trained one of that size.

    Args:
        checkpoints: names or paths.
        count: images of each.
        device: where to put them.
        side: edge of the images of the claims.
        seed: seed of the synthetic weights.
        errors: where to note a file that cannot be read; None raises.
        builders: leave out claims of other builders; None keeps all.
    """
    found = []
    for path in checkpoints:
        try:
            found.append(load_trained(path, count, device))
        except Exception as e:
            if errors is None:
                raise
            errors[str(path)] = f"{type(e).__name__}: {e}"
    for claim in CLAIMS if builders is None else [c for c in CLAIMS if c.builder in builders]:
        if not any(c.builder == claim.builder and c.x.shape[-1] == side for c in found):
            found.append(synthetic(claim.builder, side, count, device, seed=seed))
    return found


def optimized(model: nn.Module, x: Tensor, precision: str, effort: Effort | None = None) -> tuple[nn.Module, Report]:
    """Return `sparseflow.optimize(model, x, precision=...)` and its report.

    It races no compiled dense form, which the bench does itself: what comes
    back is the packed network, or a dense one where that was slower.
    """
    target = gpu_target(torch.cuda.get_device_name()) if on_cuda(model, x) else load_target("cpu")
    measured = effort or Effort(compile_s=0.0, budget_s=0.5)
    return optimize_spiking(model, x, target=target, precision=precision, effort=measured)


def densities(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Return the fraction of spikes of every neuron layer on a batch, by dotted name."""
    found: dict[str, float] = {}
    handles = [
        m.register_forward_hook(lambda _, __, y, name=n: found.update({name: float((y != 0).float().mean())}))
        for n, m in model.named_modules()
        if isinstance(m, SpikingNode)
    ]
    try:
        reset_net(model)
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
        reset_net(model)
    return found


def spikingjelly_net(case: NetCase) -> nn.Module:
    """Return the network of SpikingJelly's builder with the same weights; it takes `[T, N, C, H, W]`.

    Raises:
        ConfigError: SpikingJelly has no such builder, or its network differs.
    """
    from spikingjelly.activation_based import functional, neuron

    module = {"sew_resnet18": "sew_resnet", "spiking_resnet50": "spiking_resnet", "spiking_resnet18": "spiking_resnet"}
    if case.builder not in module or case.x.shape[-1] < 64:
        raise ConfigError(f"SpikingJelly has no {case.name}")
    theirs = __import__(f"spikingjelly.activation_based.model.{module[case.builder]}", fromlist=["_"])
    node = next(m for m in case.model.modules() if isinstance(m, SpikingNode))
    params = neuron_params(node)
    given: dict[str, Any] = {"v_threshold": params.v_threshold, "v_reset": params.v_reset}
    kind = neuron.IFNode if params.kind == "if" else neuron.LIFNode
    if params.kind == "lif":
        given |= {"tau": params.tau, "decay_input": params.decay_input}
    if case.builder.startswith("sew"):
        given["cnf"] = "ADD"
    classes = case.model.fc.out_features if isinstance(case.model.fc, nn.Linear) else 10
    net = getattr(theirs, case.builder)(spiking_neuron=kind, num_classes=classes, **given)
    net.load_state_dict(case.model.state_dict())
    functional.set_step_mode(net, "m")
    return _Mean(net).eval()


class _Mean(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out.mean(0)
