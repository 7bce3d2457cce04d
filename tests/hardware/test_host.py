import os
import time

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.hardware import describe_host
from sparseflow.hardware import host as host_module


@pytest.fixture
def counted(monkeypatch):
    """Stands in for the measurements and counts how often they run."""
    calls = []
    monkeypatch.setattr(host_module, "_product_rate", lambda dtype: calls.append(dtype) or 1e11)
    monkeypatch.setattr(host_module, "_copy_rate", lambda: 1e10)
    monkeypatch.setattr(host_module, "_call_s", lambda: 1e-6)
    monkeypatch.setattr(host_module.cpuinfo, "get_cpu_info", lambda: {"flags": ["avx2", "sse"], "brand_raw": "Abacus"})
    return calls


def test_this_machine_is_described_and_measured(tmp_path):
    target = describe_host(folder=tmp_path)
    assert (target.name, target.kind, target.cores) == ("cpu", "cpu", torch.get_num_threads())
    assert 1e8 < target.peak("float32") < 1e15
    assert 1e8 < target.bw_bytes_per_s < 1e14
    assert 1e8 < target.memory_bytes < 1e15
    assert 1e-8 < target.launch_s < 1e-2
    assert set(target.sources) >= {"name", "bw_bytes_per_s", "memory_bytes", "cores", "launch_s", "features"}
    assert describe_host(folder=tmp_path) == target


def test_a_description_is_kept_until_it_is_old(tmp_path, counted):
    first = describe_host(folder=tmp_path)
    assert first.features == ("avx2",)
    assert first.sources["name"].startswith("Abacus")
    describe_host(folder=tmp_path)
    assert len(counted) == 1
    describe_host(folder=tmp_path, max_age_s=0)
    assert len(counted) == 2
    (file,) = tmp_path.iterdir()
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(file, (long_ago, long_ago))
    assert describe_host(folder=tmp_path) == first
    assert len(counted) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 3}', '{"features": 1}'])
def test_a_damaged_description_is_made_anew(tmp_path, counted, content):
    first = describe_host(folder=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    assert describe_host(folder=tmp_path) == first
    assert len(counted) == 2


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, counted):
    (tmp_path / "file").write_text("")
    assert describe_host(folder=tmp_path / "file" / "x").name == "cpu"


def test_the_number_of_threads_is_part_of_the_machine(tmp_path, counted):
    before = torch.get_num_threads()
    first = describe_host(folder=tmp_path)
    torch.set_num_threads(before + 1)
    try:
        other = describe_host(folder=tmp_path)
    finally:
        torch.set_num_threads(before)
    assert (other.cores, first.cores) == (before + 1, before)
    assert other.key != first.key


def test_measured_anew_it_is_the_same_machine(tmp_path, counted, monkeypatch):
    first = describe_host(folder=tmp_path)
    monkeypatch.setattr(host_module, "_copy_rate", lambda: 2e10)
    second = describe_host(folder=tmp_path, max_age_s=0)
    assert second != first
    assert second.key == first.key


@pytest.mark.parametrize("age", [-1.0, float("nan")])
def test_a_wrong_age_is_refused(tmp_path, age):
    with pytest.raises(ConfigError, match="max_age_s"):
        describe_host(folder=tmp_path, max_age_s=age)
