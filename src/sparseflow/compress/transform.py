"""What every Transform promises: it consumes plan fields and returns a new model with a report."""

from typing import Protocol, runtime_checkable

from torch import nn

from sparseflow.ir import Plan, Report

__all__ = ["Transform"]


@runtime_checkable
class Transform(Protocol):
    """Applies the decisions of a plan to a model.

    `apply` never changes the model passed in: it returns a changed copy, or
    raises and leaves nothing behind. It rejects a plan that is made for
    another workload or that sets a field outside `reads`.
    """

    @property
    def reads(self) -> frozenset[str]:
        """Names of the `Decision` fields that the transform consumes."""
        ...

    def apply(self, model: nn.Module, plan: Plan) -> tuple[nn.Module, Report]:
        """Return a changed copy of `model`, and what was done.

        Raises:
            PlanError: the plan does not fit the model, or sets a field that is not read.
        """
        ...
