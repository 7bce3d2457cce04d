import json
from dataclasses import replace

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir import BINARY, Layer, Operand, Workload, density_bucket


def conv(name: str = "c1", density: float = 0.06, **change: object) -> Layer:
    spikes = Operand(role="input", shape=(4, 8, 5, 5), precision=BINARY, density=density, structure="spikes")
    weight = Operand(role="weight", shape=(16, 8, 3, 3))
    output = Operand(role="output", shape=(4, 16, 5, 5))
    layer = Layer(name=name, op="conv2d", operands=(spikes, weight, output), attrs=(("stride", (1, 1)),), flops=100.0)
    return replace(layer, **change)  # type: ignore[arg-type]


def test_bytes_count_packed_spikes() -> None:
    assert conv().bytes == 4 * 8 * 25 / 8 + 16 * 8 * 9 * 4 + 4 * 16 * 25 * 4


def test_density_is_that_of_the_first_input() -> None:
    assert conv().density == 0.06
    assert Layer(name="constant", op="constant", operands=()).density is None


def test_attributes_and_operands_by_name() -> None:
    assert conv().attr("stride") == (1, 1)
    assert conv().attr("groups", 1) == 1
    assert conv().operand("residual") is None


def test_the_key_ignores_names_edges_and_small_changes_of_density() -> None:
    assert conv().key == conv("c2", 0.055, uses=("x",)).key
    assert conv().key != conv(density=0.2).key
    assert conv().key != conv(attrs=(("stride", (2, 2)),)).key
    assert conv().key != conv(repeat=4).key


def test_flops_count_repeats() -> None:
    assert Workload(name="net", layers=(conv(), conv("c2", repeat=4))).flops == 500.0


def test_the_hash_sees_names_and_edges() -> None:
    one = Workload(name="net", layers=(conv(), conv("c2")))
    assert one.hash == replace(one, name="other").hash
    assert one.hash != Workload(name="net", layers=(conv(), conv("c2", uses=("c1",)))).hash
    assert one.hash != Workload(name="net", layers=(conv(), conv("c3"))).hash


def test_json_round_trip() -> None:
    one = Workload(name="net", layers=(conv(), conv("c2", uses=("c1",))), captured_by="fx", notes=("a note",))
    assert Workload.from_json(one.to_json()) == one


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 99}', '{"schema": 1, "name": "net"}'])
def test_what_is_no_workload_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="workload"):
        Workload.from_json(text)


def test_an_unknown_field_is_refused() -> None:
    body = json.loads(Workload(name="net", layers=(conv(),)).to_json())
    body["layers"][0]["colour"] = "red"
    with pytest.raises(DataError, match="colour"):
        Workload.from_json(json.dumps(body))


def test_a_name_stands_for_one_layer() -> None:
    with pytest.raises(ConfigError, match="holds layer 'c1' twice"):
        Workload(name="net", layers=(conv(), conv()))
    workload = Workload(name="net", layers=(conv(),))
    assert [layer.name for layer in workload] == ["c1"]
    assert len(workload) == 1
    with pytest.raises(ConfigError, match="has no layer 'c9'"):
        workload.layer("c9")


@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
def test_density_is_a_fraction(density: float) -> None:
    with pytest.raises(ConfigError, match="expected 0 to 1"):
        Operand(role="input", shape=(1,), density=density)
    with pytest.raises(ConfigError, match="expected 0 to 1"):
        density_bucket(density)


def test_sizes_are_not_negative() -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        Operand(role="input", shape=(2, -1))


def test_buckets_never_round_down() -> None:
    for density in (0.0, 1e-9, 0.001, 0.0011, 0.5, 0.99, 1.0):
        assert density_bucket(density) >= density
