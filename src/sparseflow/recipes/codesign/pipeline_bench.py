"""Predicted against measured: the period of a real pipeline over two processes, or over two GPUs."""

from collections.abc import Callable
from typing import Any

from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.codesign.pipeline import PipelineConfig, run_pipeline

__all__ = ["bench"]

_WITHIN, _SAME = 0.15, {"float32": 1e-4, "bfloat16": 0.1}


def bench(
    *, quick: bool = False, say: Callable[[str], None] = lambda _: None, config: PipelineConfig | None = None
) -> dict[str, Any]:
    """Run a pipeline and hold its period against the prediction.

    Args:
        quick: fewer samples.
        say: told the result.
        config: what to run; None for ViT-Ti on a CPU.

    Returns:
        Checks: the period within 15 %, and the pipeline's output the network's; with what they rest on.
    """
    few: dict[str, Any] = {"samples": 20, "warmup": 5, "rounds": 3, "turns": 2}
    chosen = config or PipelineConfig(device="cpu", **(few if quick else {}))
    body = run_pipeline(chosen)
    say(f"period {body['measured_ms']:.2f} ms, {body['predicted_ms']:.2f} ms predicted, on {body['device']}")
    checks = [
        Check(
            show="6", name=f"period of a pipeline of {chosen.stages} stages, predicted against measured",
            value=body["error"], unit="relative", rule="<=", bound=_WITHIN,
        ),
        Check(
            show="6", name="output of the pipeline against the whole network", value=body["difference"],
            unit="absolute", rule="<=", bound=_SAME[chosen.precision],
        ),
    ]  # fmt: skip
    return checks_body(checks, pipeline=body)
