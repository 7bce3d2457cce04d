"""Forecast an electricity transformer with the network that ships, and compare with saying the last day again.

python examples/forecasting.py

Reads the shipped ETTh1, whose last months the network was not trained on, forecasts after every hour of them, and
prints for every series the mean error beside that of the naive forecast.
"""

from torch import Tensor

from sparseflow.recipes.forecast import load_forecaster
from sparseflow.recipes.forecast.dataset import open_task
from sparseflow.recipes.forecast.score import errors

CHECKPOINT = "cmamba_etth1_96"


def main() -> None:
    """Run the example."""
    found = load_forecaster(CHECKPOINT)
    task = open_task(found.config, found.scaler)
    test = task.part("test")
    seen, ahead = found.config.seq_len, found.config.forecast_len

    def last_day(x: Tensor) -> Tensor:
        return x[..., -24:].repeat(1, 1, -(-ahead // 24))[..., :ahead]

    _, ours = errors(found.model, test, targets=found.targets)
    _, naive = errors(last_day, test, targets=found.targets)

    print(f"{task.name}: {seen} readings seen, {ahead} forecast, {len(test)} times")
    print("  series   error  of the last day, repeated")
    for i, error, other in zip(found.targets, ours.mean(1).tolist(), naive.mean(1).tolist(), strict=True):
        print(f"  {found.columns[i]:8}{error:6.3f}{other:6.3f}")
    print(f"  all     {ours.mean():6.3f}{naive.mean():6.3f}  mean absolute error, in deviations of the training part")


if __name__ == "__main__":
    main()
