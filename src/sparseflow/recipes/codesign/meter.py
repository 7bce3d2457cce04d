"""Meters of energy: a GPU's counter, a processor's, or a stated model of power where there is none."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sparseflow.errors import ConfigError, MeasurementError

__all__ = ["EdgeReader", "Meter", "ModelMeter", "NvmlMeter", "RaplMeter", "cpu_meter", "mean_power"]

_RAPL = Path("/sys/class/powercap")


class Meter(Protocol):
    """Reads the energy that a device has used.

    Attributes:
        name: how it knows, for the record.
    """

    name: str

    def energy_mj(self) -> float:
        """Return the energy used since some start, in mJ."""
        ...


class NvmlMeter:
    """The counter of a GPU's board.

    Args:
        index: of the GPU as the driver counts; None takes the first that `CUDA_VISIBLE_DEVICES` lets torch see.

    Raises:
        ConfigError: nvidia-ml-py is not installed.
        MeasurementError: the driver has no such counter.
    """

    name = "nvml total energy"

    def __init__(self, index: int | None = None) -> None:
        try:
            import pynvml
        except ImportError as e:
            raise ConfigError("reading a GPU's energy needs nvidia-ml-py; pip install 'sparseflow[codesign]'") from e
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._device = pynvml.nvmlDeviceGetHandleByIndex(index) if index is not None else _visible(pynvml)
            self.energy_mj()
        except pynvml.NVMLError as e:
            raise MeasurementError(f"this GPU's energy counter cannot be read: {e}") from e

    def energy_mj(self) -> float:
        """Return the counter, in mJ."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device))

    def clock_mhz(self) -> float:
        """Return the clock of the multiprocessors, in MHz."""
        return float(self._nvml.nvmlDeviceGetClockInfo(self._device, self._nvml.NVML_CLOCK_SM))


def _visible(pynvml: object) -> object:
    import torch

    uuid = str(torch.cuda.get_device_properties(0).uuid)
    handle: object = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")  # type: ignore[attr-defined]
    return handle


class RaplMeter:
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
        """Return the counter in mJ, its turns counted in.

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


class ModelMeter:
    """A stated model: E = ∫ (P_idle + (P_full − P_idle)·busy share of the cores) dt, the busy share as measured.

    Args:
        idle_w: power of the share of the machine that is described, at rest.
        full_w: the same with all its cores busy.
        cores: cores that are described.
        wall_s: clock.
        busy_s: seconds of processor time that this process has used.
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
        """Return what the model says of the time so far, in mJ."""
        return 1e3 * (self._idle * self._wall() + self._per_core * self._busy())


def cpu_meter(idle_w: float, full_w: float, cores: int) -> Meter:
    """Return the processor's counter where it can be read, else the model of these numbers."""
    for folder in sorted(_RAPL.glob("*-rapl:?")):
        if os.access(folder / "energy_uj", os.R_OK):
            return RaplMeter(folder)
    return ModelMeter(idle_w, full_w, cores)


class EdgeReader:
    """Follows a counter that moves in steps: an energy is only known when it has just changed.

    Args:
        meter: what is read.
        clock: seconds.
    """

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.perf_counter) -> None:
        self.meter, self.clock = meter, clock
        self.edges: list[tuple[float, float]] = []
        self._last = meter.energy_mj()

    def poll(self) -> None:
        """Read once; note time and energy where it changed."""
        now, energy = self.clock(), self.meter.energy_mj()
        if energy != self._last:
            self.edges.append((now, energy))
            self._last = energy


def mean_power(edges: list[tuple[float, float]], after_s: float) -> float | None:
    """Return the mean power in W between the first and the last change of a counter, or None with less than two.

    Args:
        edges: times in seconds and energies in mJ at which the counter changed.
        after_s: changes before this time tell of what ran earlier.

    >>> mean_power([(0.0, 5.0), (1.0, 105.0), (1.5, 205.0)], 0.5)
    0.2
    """
    kept = [e for e in edges if e[0] >= after_s]
    if len(kept) < 2:
        return None
    (began, low), (ended, high) = kept[0], kept[-1]
    return (high - low) / (ended - began) / 1e3
