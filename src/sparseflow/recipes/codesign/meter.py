"""Meters of power: a GPU's own samples, a processor's counter of energy, or a stated model where there is none."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from sparseflow.errors import ConfigError, MeasurementError

__all__ = ["EnergyMeter", "Meter", "ModelMeter", "NvmlMeter", "RaplMeter", "cpu_meter"]

_EPOCH_S = 2.0
_RAPL = Path("/sys/class/powercap")


class Meter(Protocol):
    """Tells the mean power of a stretch of time.

    Attributes:
        name: how it knows, for the record.
    """

    name: str

    def start(self) -> Any:
        """Begin a stretch, and return what `watts` wants of it."""
        ...

    def watts(self, mark: Any) -> float | None:
        """Return the mean power since a mark in W, or None where the stretch was too short."""
        ...


class NvmlMeter:
    """The samples of a GPU's board, one in 20 ms on an H200; those of a stretch's first 45 ms tell of what ran before.

    Args:
        settle_s: how long samples lag behind.

    Raises:
        ConfigError: nvidia-ml-py is not installed.
        MeasurementError: the driver has no such samples.
    """

    name = "nvml power samples"

    def __init__(self, settle_s: float = 0.045) -> None:
        try:
            import pynvml
        except ImportError as e:
            raise ConfigError("reading a GPU's power needs nvidia-ml-py; pip install 'sparseflow[codesign]'") from e
        self._nvml, self._settle_s = pynvml, settle_s
        try:
            pynvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(0).uuid
            self._device = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            newest = max((t for t, _ in self._samples(0)), default=1e6 * time.time())
        except pynvml.NVMLError as e:
            raise MeasurementError(f"this GPU's power cannot be read: {e}") from e
        # Samples bear the time of the epoch; a driver that counts from elsewhere is put right by its newest.
        behind = time.time() - newest / 1e6
        self._behind_s = behind if abs(behind) > _EPOCH_S else 0.0

    def start(self) -> float:
        """Return the time by the driver's clock, in seconds."""
        return time.time() - self._behind_s

    def watts(self, mark: float) -> float | None:
        """Return the mean of the samples since `mark` that tell of what ran since then."""
        found = self._samples(int(1e6 * (mark + self._settle_s)))
        return sum(power for _, power in found) / len(found) / 1e3 if found else None

    def clock_mhz(self) -> float:
        """Return the clock of the multiprocessors."""
        return float(self._nvml.nvmlDeviceGetClockInfo(self._device, self._nvml.NVML_CLOCK_SM))

    def _samples(self, after_us: int) -> list[tuple[int, int]]:
        """Return times in µs and powers in mW."""
        nvml = self._nvml
        try:
            _, samples = nvml.nvmlDeviceGetSamples(self._device, nvml.NVML_TOTAL_POWER_SAMPLES, after_us)
        except nvml.NVMLError_NotFound:
            return []
        return [(s.timeStamp, s.sampleValue.uiVal) for s in samples if s.timeStamp > after_us and s.sampleValue.uiVal]


class EnergyMeter:
    """Power from energies at both ends of a stretch."""

    def energy_mj(self) -> float:
        """Return the energy used since some start."""
        raise NotImplementedError

    def start(self) -> tuple[float, float]:
        """Return time and energy."""
        return time.perf_counter(), self.energy_mj()

    def watts(self, mark: tuple[float, float]) -> float | None:
        """Return energy over time."""
        spent_s, energy_mj = time.perf_counter() - mark[0], self.energy_mj() - mark[1]
        return energy_mj / spent_s / 1e3 if spent_s > 0 else None


class RaplMeter(EnergyMeter):
    """The counter of a processor's package, which Linux shows below `/sys/class/powercap`.

    Args:
        folder: of one package, as `intel-rapl:0`.
    """

    name = "rapl package energy"

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = float((folder / "max_energy_range_uj").read_text())
        self._last, self._turns = float(self._file.read_text()), 0

    def energy_mj(self) -> float:
        """Return the counter, its turns counted in.

        Raises:
            MeasurementError: it can no longer be read.
        """
        try:
            now = float(self._file.read_text())
        except OSError as e:
            raise MeasurementError(f"cannot read {self._file}: {e}") from e
        self._turns += now < self._last
        self._last = now
        return (now + self._turns * self._range) / 1e3


class ModelMeter(EnergyMeter):
    """A stated model: P = P_idle + (P_full − P_idle)·busy share of the cores, the share as the process spent it.

    Args:
        idle_w: power at rest of the part of the machine that is described.
        full_w: the same with all its cores busy.
        cores: how many these are.
        wall_s: clock.
        busy_s: seconds of processor time that this process has used.

    Raises:
        ConfigError: powers or cores out of range.
    """

    def __init__(
        self,
        idle_w: float,
        full_w: float,
        cores: int,
        *,
        wall_s: Callable[[], float] = time.perf_counter,
        busy_s: Callable[[], float] = time.process_time,
    ) -> None:
        if not 0 <= idle_w <= full_w or cores < 1:
            raise ConfigError(
                f"idle_w={idle_w}, full_w={full_w}, cores={cores}; expected 0 <= idle <= full, cores >= 1"
            )
        self.name = f"model: {idle_w:g} W idle, {full_w:g} W with {cores} cores busy"
        self._idle, self._per_core = idle_w, (full_w - idle_w) / cores
        self._wall, self._busy = wall_s, busy_s

    def energy_mj(self) -> float:
        """Return what the model says of the time so far."""
        return 1e3 * (self._idle * self._wall() + self._per_core * self._busy())


def cpu_meter(idle_w: float, full_w: float, cores: int) -> Meter:
    """Return the processor's counter where it can be read, else the model of these numbers."""
    for folder in sorted(_RAPL.glob("*-rapl:?")):
        if os.access(folder / "energy_uj", os.R_OK):
            return RaplMeter(folder)
    return ModelMeter(idle_w, full_w, cores)
