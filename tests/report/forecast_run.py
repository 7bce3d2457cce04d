"""A hand-made run of forecasters with every part of its page in it."""

import math

from sparseflow.report import Ahead, ForecastRun, Losses, Moment, Score


def made_forecast() -> ForecastRun:
    """Return a run with every part of the page in it."""
    wave = [math.sin(i / 4) for i in range(40)]
    views = tuple(
        Ahead(name=name, past=tuple(wave[:24]), truth=tuple(wave[24:]), forecast=tuple(0.9 * v for v in wave[24:]))
        for name in ("OT", "load<1>")
    )
    check = {"show": "1", "name": "MSE", "value": 0.38, "unit": "", "target": "<= 0.375", "ok": False}
    return ForecastRun(
        title="CMamba on ETTh1",
        split="test",
        windows=2785,
        seq_len=24,
        forecast_len=16,
        results=(
            Score(name="seed 1", mse=0.37, mae=0.385),
            Score(name="seed 2", mse=0.39, mae=0.387),
            Score(name="mean of 2", mse=0.38, mae=0.386, kind="mean"),
            Score(name="the last reading, repeated", mse=1.3, mae=0.71, kind="naive"),
        ),
        by_variate=(Score(name="OT", mse=0.06, mae=0.18),),
        by_step=(0.1, 0.2, 0.3),
        moments=(Moment(title="window 1 of 2785", variates=views),),
        losses=(
            Losses(name="seed 1", train=(0.9, 0.8, 0.7), val=(0.6, 0.5, 0.55), best=1),
            Losses(name="seed 2", train=(0.9, 0.7), val=(0.7, 0.6), best=1),
        ),
        checks=(check,),
        environment={"torch": "2.13.0"},
        protocol=("All windows count.",),
        notes=("A remark.",),
        command="sparseflow forecast report",
        created="2026-11-21T12:00:00+00:00",
    )
