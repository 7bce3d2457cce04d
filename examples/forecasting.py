"""Forecast four days of an electricity transformer with the network that ships, and compare with what came.

python examples/forecasting.py

Reads the shipped ETTh1, takes a moment that the network was not trained on, and prints for every series the error of
its forecast beside that of saying the last day again.
"""

import torch

from sparseflow.recipes.forecast import load_forecaster
from sparseflow.recipes.forecast.dataset import open_task

CHECKPOINT = "cmamba_etth1_96"
MOMENT = -1


def main() -> None:
    """Run the example."""
    found = load_forecaster(CHECKPOINT)
    task = open_task(found.config, found.scaler)
    test = task.part("test")
    seen, came = test.take(torch.tensor([MOMENT % len(test)]))
    with torch.no_grad():
        ahead = found.model(seen)
    day = seen[..., -24:].repeat(1, 1, -(-came.shape[2] // 24))[..., : came.shape[2]]

    print(
        f"{task.name}: {seen.shape[2]} readings seen, {came.shape[2]} forecast, window {MOMENT % len(test) + 1}", end=""
    )
    print(f" of {len(test)}")
    print("  series   error  of the last day, repeated")
    for i in found.targets:
        error, naive = ((guess - came)[0, i].abs().mean().item() for guess in (ahead, day))
        print(f"  {found.columns[i]:8}{error:6.3f}{naive:6.3f}")
    error, naive = ((guess - came)[0, list(found.targets)].abs().mean().item() for guess in (ahead, day))
    print(f"  all     {error:6.3f}{naive:6.3f}  mean absolute error, in deviations of the training part")


if __name__ == "__main__":
    main()
