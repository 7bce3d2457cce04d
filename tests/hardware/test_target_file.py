import dataclasses

import pytest
import yaml

from sparseflow.errors import ConfigError
from sparseflow.hardware import gpu_target, load_target, target_names
from sparseflow.hardware.target_file import _FOLDER
from sparseflow.ir import Target

GOOD = """
name: toy
kind: gpu
device: a toy
peak_flops_per_s:
  float32: {value: 1.0e+12, source: "the box"}
bw_bytes_per_s: {value: 1e11, source: "the box"}
memory_bytes: {value: 1000, source: "the box"}
cores: {value: 4, source: "the box"}
features: [wheels]
"""


def load(tmp_path, text):
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    return load_target(path)


@pytest.mark.parametrize("name", ["cpu", "h100", "h200", "rtx3090", "zcu102"])
def test_every_number_that_ships_has_a_source(name):
    target = load_target(name, describe=False)
    assert isinstance(target, Target)
    assert target.name == name
    numbers = {"bw_bytes_per_s", "memory_bytes", "cores", "launch_s"}
    for table in ("peak_flops_per_s", "measured", "resources"):
        numbers |= {f"{table}.{key}" for key in getattr(target, table)}
    assert numbers | {"name"} == set(target.sources)
    assert all(len(source) > 5 for source in target.sources.values())


def test_the_names_are_the_files():
    assert target_names() == ("cpu", "h100", "h200", "rtx3090", "zcu102")


def test_figures_of_the_vendors():
    h200, rtx, fpga = (load_target(n) for n in ("h200", "rtx3090", "zcu102"))
    assert (h200.peak("bfloat16"), h200.peak("float32")) == (989e12, 67e12)
    assert (h200.bw_bytes_per_s, h200.memory_bytes, h200.cores) == (4.8e12, 141e9, 132)
    assert h200.measured == {"bw_bytes_per_s": 4.3e12, "bfloat16": 788e12}
    assert (rtx.peak("float32"), rtx.bw_bytes_per_s, rtx.cores) == (35.6e12, 936e9, 82)
    assert fpga.resources["lut"] == 274_080
    assert fpga.resources["dsp"] == fpga.cores == 2520
    assert fpga.resources["bram36"] == 912


def test_what_was_measured_lies_below_the_peak():
    for name in target_names():
        target = load_target(name, describe=False)
        for what, rate in target.measured.items():
            assert rate <= (target.bw_bytes_per_s if what == "bw_bytes_per_s" else target.peak(what))


def test_only_the_cpu_is_described_from_the_machine(monkeypatch):
    stand_in = dataclasses.replace(load_target("h200"), name="described")
    monkeypatch.setattr("sparseflow.hardware.target_file.describe_host", lambda name: stand_in)
    described = [n for n in target_names() if load_target(n) == stand_in]
    assert described == ["cpu"]
    assert load_target("cpu", describe=False).name == "cpu"


def test_a_file_of_the_user(tmp_path):
    target = load(tmp_path, GOOD)
    assert (target.name, target.cores, target.bw_bytes_per_s, target.launch_s) == ("toy", 4, 1e11, 0.0)
    assert target.features == ("wheels",)
    assert target.sources["peak_flops_per_s.float32"] == "the box"
    assert target.sources["name"] == "a toy"


NUMBER = "write {value: NUMBER, source: "
FAULTS = {
    "not yaml": (GOOD + "\n  - [", "not valid YAML"),
    "twice": (GOOD + "\nkind: cpu", "key 'kind' occurs twice"),
    "odd key": (GOOD + "\n[a, b]: 1", "not a plain word"),
    "empty": ("", "the file holds None"),
    "list": ("- a", "the file holds"),
    "unknown key": (GOOD + "\ncolour: red", "colour is not known; use one of name"),
    "missing key": (GOOD.replace("kind: gpu", ""), "kind is missing; add it"),
    "no source": (GOOD.replace(', source: "the box"}\nmemory', "}\nmemory"), f"bw_bytes_per_s is {{'value'.*{NUMBER}"),
    "bare number": (GOOD.replace('{value: 1000, source: "the box"}', "1000"), f"memory_bytes is 1000; {NUMBER}"),
    "empty source": (GOOD.replace('1000, source: "the box"', '1000, source: ""'), "memory_bytes.source is ''; write a"),
    "not a number": (GOOD.replace("1000", "plenty"), "memory_bytes has value 'plenty'; give a finite number"),
    "truth": (GOOD.replace("1000", "yes"), "memory_bytes has value True"),
    "nan": (GOOD.replace("1000", ".nan"), "memory_bytes has value nan"),
    "infinite": (GOOD.replace("1000", ".inf"), "memory_bytes has value inf"),
    "negative": (GOOD.replace("1000", "-1"), "memory_bytes has value -1"),
    "zero": (GOOD.replace("1000", "0"), "memory_bytes is 0.0; expected a positive number"),
    "half a core": (GOOD.replace("value: 4", "value: 4.5"), "cores is 4.5; give a whole number"),
    "kind": (GOOD.replace("gpu", "abacus"), "kind 'abacus'; expected cpu, gpu or fpga"),
    "name": (GOOD.replace("name: toy", "name: 7"), "name is 7; write a text"),
    "features": (GOOD.replace("[wheels]", "wheels"), "features is 'wheels'; write a list of texts"),
    "table": (GOOD.replace('\n  float32: {value: 1.0e+12, source: "the box"}', " 3"), "peak_flops_per_s holds 3"),
    "described": (GOOD + "\ndescribed: moon", "described is 'moon'; write host"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_the_file_the_key_and_the_mend(tmp_path, fault):
    text, message = FAULTS[fault]
    assert text != GOOD
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, text)
    assert "toy" in str(caught.value)


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(ConfigError, match="unknown target 'abacus'; there are cpu, h100, h200, rtx3090, zcu102"):
        load_target("abacus")
    with pytest.raises(ConfigError, match=r"cannot read target file .*gone\.yaml"):
        load_target(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="cannot read"):
        load_target(tmp_path / "binary.yaml")


def test_no_code_runs_from_a_file(tmp_path):
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(tmp_path, GOOD.replace("a toy", "!!python/object/apply:os.getcwd []"))


def test_the_shipped_files_are_plain_yaml():
    for name in target_names():
        assert yaml.safe_load((_FOLDER / f"{name}.yaml").read_text())["name"] == name


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA L4", "nvidia-l4"),
    ],
)
def test_every_gpu_has_a_target(device, name):
    target = gpu_target(device)
    assert target.name == name
    assert target.kind == "gpu"
