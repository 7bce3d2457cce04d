import pytest

from sparseflow.compress.approximate.energy import EnergyTable
from sparseflow.errors import ConfigError


def test_every_number_that_ships_is_positive_and_has_a_source():
    table = EnergyTable.load()
    numbers = ("multiply_int8_j", "multiply_int32_j", "add_int32_j", "compare_int8_j", "memory_j_per_bit")
    assert all(getattr(table, name) > 0 for name in numbers)
    assert set(table.sources) == set(numbers)
    assert all(len(source) > 20 for source in table.sources.values())
    assert 64 * table.memory_j_per_bit == pytest.approx(10e-12)


def test_a_table_of_the_user_is_read(tmp_path):
    text = EnergyTable.load().sources
    lines = [f'{key}: {{value: {i}e-12, source: "mine"}}' for i, key in enumerate(text)]
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ntechnology: paper\n" + "\n".join(lines))
    table = EnergyTable.load(path)
    assert (table.name, table.multiply_int8_j, table.multiply_int32_j) == ("mine", 0.0, 1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read"),
        ("a: [", "cannot read"),
        ("12", "no energy table"),
        ("name: x\nadd_int64_j: {value: 1, source: s}", "add_int64_j is not known"),
        ("name: x", "multiply_int8_j is None"),
        ("multiply_int8_j: 2", "source"),
        ("multiply_int8_j: {value: two, source: s}", "number of joules"),
        ("multiply_int8_j: {value: 1, source: ' '}", "source"),
    ],
)
def test_a_faulty_table_names_file_and_key(tmp_path, text, said):
    path = tmp_path / "t.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said) as e:
        EnergyTable.load(path)
    assert "t.yaml" in str(e.value)


def test_a_negative_number_is_refused():
    with pytest.raises(ConfigError, match="add_int32_j is -1"):
        EnergyTable(
            name="x",
            technology="",
            multiply_int8_j=0,
            multiply_int32_j=0,
            add_int32_j=-1.0,
            compare_int8_j=0,
            memory_j_per_bit=0,
        )
