"""What a configuration costs hardware: counted multiplies, additions and bits, and their energy by a table.

A layer with weights w that reads f(x), one of 0, v1, v2 or an escape x > tmax, needs

    Σ w·f(x) = v1·Σ_{f = v1} w + v2·Σ_{f = v2} w + Σ_{x > tmax} w·x:

additions instead of products for all but the escapes, and two products an output.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sparseflow.compress.approximate.energy import EnergyTable
from sparseflow.compress.approximate.flow import ESCAPE

__all__ = ["Machine", "Reader", "Stored", "TriSegCost"]

_BITS = 8
_TAG_BITS = 2
_COMPARISONS = {"pass": 3, "clip": 2, "saturate": 3}
# One product and one addition for each of v1 and v2.


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One layer, and the pairs of a weight and an input that it multiplies, over all counted images.

    Args:
        layer: dotted path of the layer.
        source: name of the value that it reads, see `Stored`.
        sites: the sites whose codes it reads; empty for the first layer and others that read whole codes.
        outputs: how many sums.
        pairs: pairs of weight and input, padding left out: the products of an INT8 machine.
        pairs_exact_nonzero: those whose input is not 0 without approximation: the products if zeros are skipped.
        pairs_nonzero: those whose input is not 0 with approximation: the additions.
        pairs_escaped: those whose input is carried whole and not 0: the products that are left.
        values: what a site's segments hold beside 0: v1 and v2, and tmax in mode "saturate".
    """

    layer: str
    source: str
    sites: tuple[str, ...]
    outputs: int
    pairs: int
    pairs_exact_nonzero: int
    pairs_nonzero: int
    pairs_escaped: int
    values: int = 2

    @property
    def levels(self) -> int:
        """Products of a sum of weights with a value: one a value, output and site."""
        return self.values * len(self.sites) * self.outputs

    @property
    def multiplies(self) -> int:
        """Products that are left."""
        return self.pairs_escaped + self.levels

    @property
    def avoided(self) -> float:
        """Share of an INT8 machine's products that are saved; below 0 if there are more."""
        return 1 - self.multiplies / self.pairs if self.pairs else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One tensor of activations in memory, as layers read it, over all counted images.

    Args:
        name: name of the value in the network's graph.
        sites: the sites whose codes it holds.
        elements: by segment: zeros, v1, v2, codes carried whole, and in mode "saturate" tmax.
        exact_nonzero: elements that are not 0 without approximation.
    """

    name: str
    sites: tuple[str, ...]
    elements: tuple[int, ...]
    exact_nonzero: int

    @property
    def count(self) -> int:
        """How many activations."""
        return sum(self.elements)

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of zeros, v1, v2 and escapes, ρ0, ρ1, ρ2, ρx, and in mode "saturate" of tmax."""
        return tuple(n / max(self.count, 1) for n in self.elements)

    @property
    def bits(self) -> float:
        """Bits an activation: a tag of 2 bits, and 8 more for each escape: 2 + 8·ρx; 8 where no site is read."""
        return _TAG_BITS + _BITS * self.shares[ESCAPE] if self.sites else float(_BITS)

    @property
    def entropy_bits(self) -> float:
        """Lower bound of any code for the tags, and the escapes: H(ρ) + 8·ρx."""
        if not self.sites:
            return float(_BITS)
        return -sum(p * math.log2(p) for p in self.shares if p) + _BITS * self.shares[ESCAPE]

    @property
    def zero_skipping_bits(self) -> float:
        """Bits an activation where INT8 keeps a mask of 1 bit, and the codes other than 0: 1 + 8·density."""
        return 1 + _BITS * self.exact_nonzero / max(self.count, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one way of computing takes for one image.

    Args:
        name: "int8", "int8, zeros skipped" or "tri-segment".
        multiplies: products of a weight and a code.
        level_multiplies: products of a 32-bit sum and v1 or v2.
        additions: additions into 32-bit sums.
        comparisons: of codes with thresholds where a code is made (two for "clip"), one where a tag is decoded.
        memory_bits: bits of activations written once and read once by each layer.
        energy_j: energy of all of it. Traffic of weights, which depends on how often each is used again, and additions
            of residuals, which are the same for all, are left out everywhere.
    """

    name: str
    multiplies: float
    level_multiplies: float
    additions: float
    comparisons: float
    memory_bits: float
    energy_j: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TriSegCost:
    """The cost of one configuration, counted on some images.

    Args:
        images: how many were counted.
        readers: the convolutions and linear layers, in order of execution.
        stored: the tensors they read.
        made: activations that the sites make, each of which is compared with the thresholds.
        mode: "pass", "clip" or "saturate".
        table: energy of an operation.
    """

    images: int
    readers: tuple[Reader, ...]
    stored: tuple[Stored, ...]
    made: int
    mode: str = "pass"
    table: EnergyTable = field(default_factory=EnergyTable.load)

    @property
    def bits_per_activation(self) -> float:
        """Mean of `Stored.bits` over the activations that hold segments."""
        return self._mean("bits")

    @property
    def entropy_bits_per_activation(self) -> float:
        """Mean of `Stored.entropy_bits` likewise."""
        return self._mean("entropy_bits")

    @property
    def zero_skipping_bits_per_activation(self) -> float:
        """Mean of `Stored.zero_skipping_bits` likewise."""
        return self._mean("zero_skipping_bits")

    @property
    def multiplies_avoided(self) -> float:
        """Share of the INT8 products saved, over the layers that read approximated activations."""
        return self._avoided([r for r in self.readers if r.sites])

    @property
    def multiplies_avoided_whole(self) -> float:
        """The same over all layers, the first one and others that read whole codes included."""
        return self._avoided(self.readers)

    @property
    def zero_skipping_avoided(self) -> float:
        """Share of the INT8 products that skipping zeros alone saves, over the same layers as `multiplies_avoided`."""
        chosen = [r for r in self.readers if r.sites]
        pairs = sum(r.pairs for r in chosen)
        return 1 - sum(r.pairs_exact_nonzero for r in chosen) / pairs if pairs else 0.0

    @property
    def machines(self) -> tuple[Machine, Machine, Machine]:
        """An INT8 machine, one that skips zeros, and one for tri-segments, over the whole network."""
        pairs = sum(r.pairs for r in self.readers)
        skipped = sum(r.pairs_exact_nonzero for r in self.readers)
        levels = sum(r.levels for r in self.readers)
        reads = Counter(r.source for r in self.readers)
        plain, skipping, tagged = (
            sum((1 + reads[s.name]) * s.count * bits for s, bits in zip(self.stored, each, strict=True))
            for each in (
                [_BITS] * len(self.stored),
                [s.zero_skipping_bits for s in self.stored],
                [s.bits for s in self.stored],
            )
        )
        decoded = sum(reads[s.name] * s.count for s in self.stored if s.sites)
        return (
            self._machine("int8", pairs, 0, pairs, 0, plain),
            self._machine("int8, zeros skipped", skipped, 0, skipped, 0, skipping),
            self._machine(
                "tri-segment",
                sum(r.pairs_escaped for r in self.readers),
                levels,
                sum(r.pairs_nonzero for r in self.readers) + levels,
                _COMPARISONS[self.mode] * self.made + decoded,
                tagged,
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: totals, layers, tensors, machines and the table with its sources."""
        return {
            "images": self.images,
            "mode": self.mode,
            "bits_per_activation": self.bits_per_activation,
            "entropy_bits_per_activation": self.entropy_bits_per_activation,
            "zero_skipping_bits_per_activation": self.zero_skipping_bits_per_activation,
            "multiplies_avoided": self.multiplies_avoided,
            "multiplies_avoided_whole": self.multiplies_avoided_whole,
            "zero_skipping_avoided": self.zero_skipping_avoided,
            "readers": [
                {**asdict(r), "multiplies": r.multiplies, "levels": r.levels, "avoided": r.avoided}
                for r in self.readers
            ],
            "stored": [
                {
                    **asdict(s),
                    "shares": s.shares,
                    "bits": s.bits,
                    "entropy_bits": s.entropy_bits,
                    "zero_skipping_bits": s.zero_skipping_bits,
                }
                for s in self.stored
            ],
            "machines": [asdict(m) for m in self.machines],
            "table": asdict(self.table),
        }

    def _mean(self, kind: str) -> float:
        chosen = [s for s in self.stored if s.sites]
        count = sum(s.count for s in chosen)
        return sum(s.count * float(getattr(s, kind)) for s in chosen) / count if count else float(_BITS)

    @staticmethod
    def _avoided(readers: Sequence[Reader]) -> float:
        pairs = sum(r.pairs for r in readers)
        return 1 - sum(r.multiplies for r in readers) / pairs if pairs else 0.0

    def _machine(
        self, name: str, multiplies: float, levels: float, additions: float, comparisons: float, bits: float
    ) -> Machine:
        t, n = self.table, max(self.images, 1)
        energy = (
            multiplies * t.multiply_int8_j
            + levels * t.multiply_int32_j
            + additions * t.add_int32_j
            + comparisons * t.compare_int8_j
            + bits * t.memory_j_per_bit
        )
        return Machine(
            name=name, multiplies=multiplies / n, level_multiplies=levels / n, additions=additions / n,
            comparisons=comparisons / n, memory_bits=bits / n, energy_j=energy / n,
        )  # fmt: skip
