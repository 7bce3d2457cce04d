"""The file of measurements: what is written comes back, a torn last line is left out, others are refused."""

import json
import math

import pytest

from sparseflow.errors import DataError
from sparseflow.recipes.codesign.measured_layers import SPACES, sampled
from sparseflow.recipes.codesign.measurements import Measured, Network, Run, append, layer_body, layer_from, read

LAYERS = sampled(SPACES["gpu"], 30)
RUN = Run(device="d", kind="gpu", protocol="p", power_source="s", commit="c", versions={"torch": "2"})


def test_layers_come_back_as_they_were():
    assert [layer_from(layer_body(s)) for s in LAYERS] == list(LAYERS)


def test_a_file_comes_back_and_the_last_of_two_counts(tmp_path):
    path = tmp_path / "m.jsonl"
    first, second = (Measured(layer=LAYERS[0], lat_ms=x, iqr_ms=0.1, mem_mb=2.0, power_w=None) for x in (1.0, 3.0))
    network = Network(name="n", layers=LAYERS[:3], lat_ms=5.0, mem_mb=1.0, power_w=300.0)
    for entry in (RUN, first, network, second):
        append(path, entry)
    assert read([path]) == ([RUN], [second], [network])


def test_a_power_that_was_read_stays(tmp_path):
    path = tmp_path / "m.jsonl"
    for lat_ms, power_w in ((1.0, 300.0), (2.0, None)):
        append(path, Measured(layer=LAYERS[0], lat_ms=lat_ms, iqr_ms=0.1, mem_mb=2.0, power_w=power_w))
    (found,) = read([path])[1]
    assert (found.lat_ms, found.power_w) == (2.0, 300.0)


@pytest.mark.parametrize("figure", [{"lat_ms": math.nan}, {"lat_ms": 0.0}, {"mem_mb": -1.0}, {"power_w": math.inf}])
def test_figures_that_no_hardware_gives_are_refused_by_line(tmp_path, figure):
    path = tmp_path / "m.jsonl"
    append(path, Measured(layer=LAYERS[0], lat_ms=1.0, iqr_ms=0.1, mem_mb=2.0, power_w=300.0))
    path.write_text(json.dumps(json.loads(path.read_text()) | figure) + "\n")
    with pytest.raises(DataError, match=rf"m\.jsonl, line 1.*{next(iter(figure))}"):
        read([path])


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "m.jsonl"
    append(path, RUN)
    with path.open("a") as file:
        file.write('{"measured":{"name"')
    assert read([path]) == ([RUN], [], [])


@pytest.mark.parametrize("line", ["[]", "{}", '{"run": 99}', '{"measured": {"name": "x", "kind": "attn"}}', "not json"])
def test_other_lines_are_refused_by_number(tmp_path, line):
    path = tmp_path / "m.jsonl"
    append(path, RUN)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match="line 2"):
        read([path])


def test_a_missing_file_is_told_with_the_mend(tmp_path):
    with pytest.raises(DataError, match="codesign measure"):
        read([tmp_path / "none.jsonl"])
    with pytest.raises(DataError, match="cannot write"):
        append(tmp_path / "no" / "m.jsonl", RUN)
