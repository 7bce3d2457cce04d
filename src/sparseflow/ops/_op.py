"""Op, Kernel and Candidate: what an operator folder declares to the rest of the house."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir import Layer, Target
from sparseflow.ops._formulas import flops as dense_flops

__all__ = ["Candidate", "Kernel", "Op"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One kernel that could run a layer, or why it cannot.

    Args:
        kernel: kernel name, as "event".
        refusal: the reason why the kernel rejects the layer, or None.
    """

    kernel: str
    refusal: str | None = None


def _always(layer: Layer, target: Target) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One implementation of an operator.

    Args:
        name: short name that the operator's `kernel` argument takes.
        summary: what it does, in one line.
        refuses: `(layer, target)` to the reason for a refusal, or None.
        flops: layer to the operations that this kernel executes; None is the dense count.
        bytes: layer to the bytes that this kernel moves; None is every operand once.
    """

    name: str
    summary: str
    refuses: Callable[[Layer, Target], str | None] = _always
    flops: Callable[[Layer], Any] | None = None
    bytes: Callable[[Layer], Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator: its kernels, its cost formulas, and the layers that it serves.

    Args:
        name: operator stem, the name of its folder.
        serves: stems of traced layers that it can run, as `("conv2d",)`.
        kernels: its kernels; the first one is the dense reference.
    """

    name: str
    serves: tuple[str, ...]
    kernels: tuple[Kernel, ...]

    def kernel(self, name: str) -> Kernel:
        """Return the kernel with this name.

        Raises:
            ConfigError: there is none.
        """
        for kernel in self.kernels:
            if kernel.name == name:
                return kernel
        known = ", ".join(k.name for k in self.kernels)
        raise ConfigError(f"operator {self.name!r} has no kernel {name!r}; it has {known}")

    def flops(self, layer: Layer, kernel: str = "dense") -> Any:
        """Return the operations that a kernel executes in one call of the layer.

        Args:
            layer: a layer that the operator serves.
            kernel: kernel name.

        Raises:
            ConfigError: no such kernel.
        """
        formula = self.kernel(kernel).flops
        if formula is not None:
            return formula(layer)
        shapes = {o.role: o.shape for o in reversed(layer.operands)}
        return dense_flops(layer.op, shapes, dict(layer.attrs))

    def bytes(self, layer: Layer, kernel: str = "dense") -> Any:
        """Return the bytes that a kernel moves in one call of the layer.

        Args:
            layer: a layer that the operator serves.
            kernel: kernel name.

        Raises:
            ConfigError: no such kernel.
        """
        formula = self.kernel(kernel).bytes
        return layer.bytes if formula is None else formula(layer)

    def candidates(self, layer: Layer, target: Target) -> list[Candidate]:
        """Return every kernel with its refusal, or None where it can run the layer.

        Raises:
            UnsupportedError: the operator does not serve such layers.
        """
        if layer.op not in self.serves:
            raise UnsupportedError(f"operator {self.name!r} serves {', '.join(self.serves)}, not {layer.op!r}")
        return [Candidate(kernel=k.name, refusal=k.refuses(layer, target)) for k in self.kernels]
