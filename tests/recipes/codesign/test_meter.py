"""Meters: samples of a stretch, counters that turn over, and a model that adds up."""

import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
import torch

from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.recipes.codesign import meter
from sparseflow.recipes.codesign.meter import ModelMeter, NvmlMeter, RaplMeter, cpu_meter


class FakeNvml(ModuleType):
    """A driver whose board sampled 100 mW a sample before `switched_us`, and 300 mW since."""

    NVML_TOTAL_POWER_SAMPLES = 0
    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    class NVMLError_NotFound(NVMLError):
        pass

    def __init__(self, behind_s=0.0):
        super().__init__("pynvml")
        self.behind_s = behind_s
        self.switched_us = float("inf")

    def now_us(self):
        return int(1e6 * (time.time() - self.behind_s))

    def nvmlInit(self):
        return None

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-abc"
        return 1

    def nvmlDeviceGetClockInfo(self, device, kind):
        return 1980

    def nvmlDeviceGetSamples(self, device, kind, after_us):
        times = [t for t in range(self.now_us() - 2_000_000, self.now_us(), 20_000) if t > after_us]
        if not times:
            raise self.NVMLError_NotFound
        powers = [300_000 if t > self.switched_us else 100_000 for t in times]
        return 1, [
            SimpleNamespace(timeStamp=t, sampleValue=SimpleNamespace(uiVal=p))
            for t, p in zip(times, powers, strict=True)
        ]


@pytest.fixture
def driver(monkeypatch, request):
    fake = FakeNvml(*getattr(request, "param", ()))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="abc"))
    return fake


@pytest.mark.parametrize("driver", [(0.0,), (1e6,)], indirect=True, ids=["epoch", "elsewhere"])
def test_samples_of_a_stretch_alone_make_its_power(driver):
    found = NvmlMeter(settle_s=0.01)
    mark = found.start()
    driver.switched_us = int(1e6 * mark)
    time.sleep(0.08)
    assert found.watts(mark) == pytest.approx(300.0)
    assert found.clock_mhz() == 1980


def test_a_stretch_without_samples_has_no_power(driver):
    found = NvmlMeter()
    assert found.watts(found.start()) is None


def test_a_driver_without_samples_and_a_library_that_lacks_are_told(driver, monkeypatch):
    def refuse(*_):
        raise driver.NVMLError("not supported")

    driver.nvmlDeviceGetSamples = refuse
    with pytest.raises(MeasurementError, match="not supported"):
        NvmlMeter()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ConfigError, match="nvidia-ml-py"):
        NvmlMeter()


def test_a_counter_of_a_processor_may_turn_over(tmp_path):
    (tmp_path / "max_energy_range_uj").write_text("1000000")
    energy = tmp_path / "energy_uj"
    energy.write_text("900000")
    found = RaplMeter(tmp_path)
    before = found.energy_mj()
    energy.write_text("100000")
    assert found.energy_mj() - before == pytest.approx(200.0)
    energy.unlink()
    with pytest.raises(MeasurementError, match="energy_uj"):
        found.energy_mj()


def test_the_model_is_idle_power_and_a_share_for_each_busy_core():
    clock = {"wall": 0.0, "busy": 0.0}
    found = ModelMeter(4.0, 14.0, 2, wall_s=lambda: clock["wall"], busy_s=lambda: clock["busy"])
    clock.update(wall=2.0, busy=2.0)
    assert found.energy_mj() == pytest.approx(1e3 * (2 * 4.0 + 2 * 5.0))
    assert "4 W idle" in found.name
    with pytest.raises(ConfigError, match="idle_w"):
        ModelMeter(20.0, 14.0, 2)


def test_power_is_energy_over_time():
    found = ModelMeter(7.0, 7.0, 1)
    mark = found.start()
    time.sleep(0.02)
    assert found.watts(mark) == pytest.approx(7.0, rel=0.05)


def test_a_counter_that_can_be_read_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(meter, "_RAPL", tmp_path)
    assert isinstance(cpu_meter(4.0, 14.0, 2), ModelMeter)
    folder = tmp_path / "intel-rapl:0"
    folder.mkdir()
    for name in ("energy_uj", "max_energy_range_uj"):
        (folder / name).write_text("5")
    assert isinstance(cpu_meter(4.0, 14.0, 2), RaplMeter)
