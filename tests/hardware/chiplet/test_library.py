import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sparseflow.errors import ConfigError
from sparseflow.hardware.chiplet import load_library
from sparseflow.hardware.chiplet.library import _NUMBERS

GOOD = "chiplets:\n  toy:\n" + "".join(f'    {key}: {{value: 4, source: "the box"}}\n' for key in _NUMBERS)


def load(tmp_path, text):
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    return load_library(path)


def test_every_number_that_ships_has_a_source():
    for chip in load_library():
        assert set(chip.sources) == set(_NUMBERS)
        assert all(len(source) > 5 for source in chip.sources.values())


def test_figures_of_the_design_study():
    big, small = load_library(names=["big_core", "small_core"])
    assert (big.peak_flops_per_s, big.peak_bw_bytes_per_s, big.mem_gb, big.tdp_w) == (1e14, 1e12, 24, 350)
    assert (small.peak_flops_per_s, small.peak_bw_bytes_per_s, small.mem_gb, small.tdp_w) == (3e13, 4e11, 12, 150)
    assert (big.width_mm, big.height_mm) == (pytest.approx(25), pytest.approx(24))
    assert small.width_mm == small.height_mm == math.sqrt(250)


def test_a_die_is_as_large_and_as_wide_as_stated():
    chip = replace(load_library()[0], area_mm2=200.0, aspect=2.0)
    assert chip.width_mm * chip.height_mm == pytest.approx(200)
    assert chip.width_mm / chip.height_mm == pytest.approx(2)


def test_the_configuration_is_the_file_that_ships():
    root = Path(__file__).resolve().parents[3]
    assert load_library(root / "configs" / "gpu_data.yaml") == load_library()


def test_names_choose_and_order():
    assert [c.name for c in load_library(names=["h200", "big_core"])] == ["h200", "big_core"]
    with pytest.raises(ConfigError, match="no chiplet 'huge'"):
        load_library(names=["huge"])


def test_a_file_of_the_user(tmp_path):
    (toy,) = load(tmp_path, GOOD)
    assert (toy.name, toy.width_mm, toy.height_mm, toy.mem_mb) == ("toy", 4.0, 1.0, 4000.0)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("tdp_w", "tdp", "tdp is not known"),
        ('    tdp_w: {value: 4, source: "the box"}\n', "", "tdp_w is missing"),
        ('tdp_w: {value: 4, source: "the box"}', "tdp_w: 4", "tdp_w is 4"),
        ("tdp_w: {value: 4", "tdp_w: {value: 0", "tdp_w is 0.0"),
        ("chiplets", "chips", "chips is not known"),
        (GOOD, "chiplets: {}", "no chiplet"),
    ],
)
def test_a_fault_names_file_and_key(tmp_path, old, new, says):
    with pytest.raises(ConfigError, match=rf"toy\.yaml.*{re.escape(says)}"):
        load(tmp_path, GOOD.replace(old, new))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml"):
        load_library(tmp_path / "nothing.yaml")
