"""A hand-made run with every part of the page in it."""

import io
import random

import pytest
from PIL import Image

from sparseflow.ir import Decision, LayerReport, Plan, Refusal, Report
from sparseflow.report import Accuracy, Run, Sample, Stage, Variant

_LAYERS = (
    ("stem", (32, 3, 32, 32), None, 2.1e-3, 2.1e-3, "dense"),
    ("features.0.conv", (128, 64, 32, 32), 0.112, 31e-3, 9.4e-3, "event"),
    ("features.1.conv", (128, 128, 16, 16), 0.064, 26e-3, 5.1e-3, "event"),
    ("features.2.conv", (128, 128, 16, 16), 0.081, 27e-3, 6.2e-3, "event"),
    ("features.3.conv", (128, 256, 8, 8), 0.047, 19e-3, 3.8e-3, "event"),
    ("features.4.conv", (128, 256, 8, 8), 0.031, 20e-3, 2.9e-3, "event"),
    ("features.5.conv", (128, 512, 4, 4), 0.022, 14e-3, 2.2e-3, "event"),
    ("classifier.0", (128, 8192), 0.026, 1.3e-3, 0.7e-3, "event"),
    ("classifier.1", (128, 1024), 0.21, 80e-6, 80e-6, "dense"),
)


def png(width: int, height: int, density: float | None = None) -> bytes:
    """Return a small PNG: spikes of this density, or a smooth picture."""
    dice = random.Random(0)
    image = Image.new("RGBA", (width, height))
    for x in range(width):
        for y in range(height):
            if density is None:
                image.putpixel((x, y), (40 + 6 * x, 90 + 3 * y, 180 - 3 * x, 255))
            else:
                image.putpixel((x, y), (20, 160, 148, 255 if dice.random() < density else 0))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def made_run() -> Run:
    """Return a run with every part of the page in it."""
    layers = tuple(
        LayerReport(
            name=name,
            op="linear" if "classifier" in name else "conv2d",
            source="" if density is None else name.replace("conv", "lif_before"),
            shape=shape,
            density=density,
            kernel=kernel,
            dense_s=dense_s,
            kernel_s=kernel_s,
            predicted_s=kernel_s * (0.8 + 0.1 * (i % 5)),
            timings_s={"original": dense_s, "dense": 0.8 * dense_s, "event": kernel_s, "amx": 1.1 * kernel_s}
            if density is not None
            else {},
        )
        for i, (name, shape, density, dense_s, kernel_s, kernel) in enumerate(_LAYERS)
    )
    report = Report(
        model="spiking_vgg9",
        target="cpu",
        captured_by="fx",
        layers=layers,
        refusals=(
            Refusal(layer="stem", what="event", reason="no spiking layer lies in front of it: its input is the image"),
            Refusal(layer="classifier.1", what="event", reason="measured 92 µs, dense takes 80 µs: <not> faster"),
        ),
        fallbacks=("features.5.conv runs without fusion: its residual is not a spike tensor",),
        plan=Plan(workload_hash="0" * 16, decisions={"features.0.conv": Decision(kernel="event")}),
        dense_s=0.152,
        optimized_s=0.044,
        parity={"logits_max_abs_error": 3.1e-6, "spikes_changed": 0.0},
    )
    return Run(
        title="Spiking VGG-9 on CIFAR-10",
        report=report,
        batch=32,
        steps=4,
        variants=(
            Variant(name="torch, eager, contiguous", latency_s=0.211, iqr_s=0.012, repeats=20),
            Variant(name="torch, eager, channels_last", latency_s=0.187, iqr_s=0.009, repeats=20),
            Variant(name="torch, compiled, channels_last, frozen", latency_s=0.152, iqr_s=0.02, repeats=20),
            Variant(name="torch, compiled, contiguous", note="no C++ compiler was found"),
            Variant(name="sparseflow", kind="optimized", latency_s=0.044, iqr_s=0.003, repeats=20),
        ),
        accuracy=Accuracy(
            data_set="CIFAR-10 test images", images=2000, dense_correct=1836, optimized_correct=1836, changed=0
        ),
        samples=tuple(
            Sample(png=png(32, 32), truth=t, dense=o, optimized=o, confidence=0.97 - 0.05 * i)
            for i, (t, o) in enumerate(
                [("cat", "cat"), ("ship", "ship"), ("airplane", "bird"), ("frog", "frog"), ("automobile", "automobile")]
            )
        ),
        stages=tuple(
            Stage(
                name=x.name,
                detail="1024 → 10" if x.op == "linear" else f"3×3, {x.shape[1]} → {2 * x.shape[1]}",
                receives="bits" if x.source else "floats",
                density=x.density,
                kernel=x.kernel,
                png=png(x.shape[2], x.shape[3], x.density) if len(x.shape) == 4 else None,
            )
            for x in layers
        ),
        environment={"Processor": "Example CPU", "Threads": "2", "torch": "2.13.0", "sparseflow": "0.1.0"},
        protocol=("Every variant runs in turn in each of 20 rounds.", "Packing and layout lie inside the timer."),
        notes=("The compiled variant could not be built: no C++ compiler was found.",),
        command="sparseflow demo --batch 32",
        created="2026-11-21T10:00:00+00:00",
    )


@pytest.fixture
def run() -> Run:
    """A run with every part of the page in it."""
    return made_run()
