"""A hand-made run of an approximated network with every part of its page in it."""

import random

from sparseflow.report import Curve, Finding, SiteView, TriSegRun

CODES = ((7, 14, 21, 28, 35), (3, 9, 16, 40, 80), (12, 18, 24, 29, 35))


def counts(seed: int, last: int = 127) -> tuple[int, ...]:
    """Return counts that fall with the code."""
    dice = random.Random(seed)
    return tuple(
        60000 if q == 0 else int(9000 * 0.93**q * (0.8 + 0.4 * dice.random())) if q <= last else 0 for q in range(256)
    )


def made_triseg() -> TriSegRun:
    """Return a run with every part of the page in it."""
    sites = tuple(
        SiteView(
            name=f"conv<{i}>",
            counts=counts(i),
            codes=codes,
            shares=(0.7, 0.15, 0.13, 0.02),
            bits=2.16,
            avoided=0.95 - 0.01 * i,
            drop=0.1 * i,
        )
        for i, codes in enumerate(CODES, 1)
    )
    curves = tuple(
        Curve(
            name=name,
            ours=ours,
            seeds=5,
            points=tuple((n, start / (1 + n / 90)) for n in (1, 20, 80, 200, 600)),
            low=tuple(1.2 * start / (1 + n / 90) for n in (1, 20, 80, 200, 600)),
            high=tuple(0.8 * start / (1 + n / 90) for n in (1, 20, 80, 200, 600)),
        )
        for name, start, ours in (("dp, cma, coordinate", -2.0, True), ("random", -9.0, False), ("ppo", -6.0, False))
    )
    machines = [
        {
            "name": name,
            "multiplies": m,
            "level_multiplies": levels,
            "additions": a,
            "comparisons": c,
            "memory_bits": bits,
            "energy_j": e,
        }
        for name, m, levels, a, c, bits, e in (
            ("int8", 56e6, 0, 56e6, 0, 2.4e6, 1.7e-5),
            ("int8, zeros skipped", 2e7, 0, 2e7, 0, 1.4e6, 6.4e-6),
            ("tri-segment", 1.5e6, 9e5, 1.6e7, 9e5, 7e5, 4.7e-6),
        )
    ]
    cost = {
        "images": 256,
        "bits_per_activation": 2.16,
        "entropy_bits_per_activation": 1.4,
        "zero_skipping_bits_per_activation": 4.2,
        "multiplies_avoided": 0.945,
        "multiplies_avoided_whole": 0.93,
        "zero_skipping_avoided": 0.64,
        "machines": machines,
        "table": {
            "name": "45nm",
            "technology": "45 nm CMOS",
            "multiply_int8_j": 2e-13,
            "sources": {"multiply_int8_j": "Horowitz, ISSCC 2014"},
        },
    }
    return TriSegRun(
        title="AlexNet on CIFAR-10",
        model="alexnet",
        acc_teacher=92.53,
        acc_student=91.3,
        split="test",
        images=10000,
        selection="constrained-best (drop=1.23% <= 2.0%)",
        sites=sites,
        curves=curves,
        findings=(
            Finding(name="INT8", bits=8.0, accuracy=92.5, kind="teacher"),
            *(Finding(name=f"finalist {i}", bits=2.1 + 0.05 * i, accuracy=91 - 0.3 * i) for i in range(6)),
            Finding(name="chosen", bits=2.16, accuracy=91.3, kind="chosen"),
            Finding(name="tuned", bits=2.2, accuracy=92.3, kind="tuned"),
        ),
        cost=cost,
        environment={"Processor": "Example CPU", "sparseflow": "0.1.0"},
        protocol=("Chosen on validation images, told on test images.",),
        notes=("A small run.",),
        command="sparseflow triseg search --model alexnet",
        created="2026-11-21T10:00:00+00:00",
    )
