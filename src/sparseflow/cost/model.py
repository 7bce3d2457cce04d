"""The protocol of cost models, how layers add up, and the chain that asks one model after another."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir import Cost, Decision, Layer, Plan, Target, Workload

__all__ = ["Chain", "CostModel", "predict"]


@runtime_checkable
class CostModel(Protocol):
    """Says what layers and workloads cost on a target."""

    def predict_layer(self, layer: Layer, decision: Decision, target: Target) -> Cost:
        """Return the cost of one call of a layer.

        Raises:
            UnsupportedError: this model cannot say; another one may.
            MeasurementError: the layer was tried and does not run like this.
        """
        ...

    def predict(self, workload: Workload, plans: Sequence[Plan], target: Target) -> list[Cost]:
        """Return the cost of one forward for every plan."""
        ...


def predict(model: CostModel, workload: Workload, plans: Sequence[Plan], target: Target) -> list[Cost]:
    """Add up the layers of a workload for every plan: latency_s = Σ repeat · latency_s of one call.

    A layer that a plan does not name keeps its default. The deviations of the
    layers count as independent. `source` names every source, joined by "+".

    Args:
        model: asked for each layer.
        workload: the layers.
        plans: decisions by layer name.
        target: the device.

    Returns:
        One cost a plan, in the order of `plans`.

    Raises:
        ConfigError: the model gave no latency for a layer.
    """
    return [_total(model, workload, plan, target) for plan in plans]


def _total(model: CostModel, workload: Workload, plan: Plan, target: Target) -> Cost:
    seconds, variance, sources = 0.0, 0.0, set()
    for layer in workload:
        cost = model.predict_layer(layer, plan.decisions.get(layer.name, Decision()), target)
        if cost.latency_s is None:
            raise ConfigError(f"cost model {type(model).__name__} gives no latency for layer {layer.name!r}")
        seconds = seconds + layer.repeat * cost.latency_s
        variance = variance + (layer.repeat * (cost.stdev or 0.0)) ** 2
        sources.add(cost.source)
    return Cost(latency_s=seconds, stdev=variance**0.5 if variance else None, source="+".join(sorted(sources)))


class Chain:
    """Asks models in order and takes the first answer: records, then learned, then analytical.

    Args:
        models: the most trusted first.

    Raises:
        ConfigError: no model.
    """

    def __init__(self, models: Sequence[CostModel]) -> None:
        if not models:
            raise ConfigError("a chain of cost models needs at least one")
        self.models = tuple(models)

    def predict_layer(self, layer: Layer, decision: Decision, target: Target) -> Cost:
        """Return the first answer; `Cost.source` says whose it is.

        Raises:
            UnsupportedError: no model can say; gives every reason.
            MeasurementError: the layer was tried and does not run like this.
        """
        reasons = []
        for model in self.models:
            try:
                return model.predict_layer(layer, decision, target)
            except UnsupportedError as e:
                reasons.append(f"{type(model).__name__}: {e}")
        raise UnsupportedError(f"no cost model can say what layer {layer.name!r} costs: {'; '.join(reasons)}")

    def predict(self, workload: Workload, plans: Sequence[Plan], target: Target) -> list[Cost]:
        """Return the cost of one forward for every plan."""
        return predict(self, workload, plans, target)
