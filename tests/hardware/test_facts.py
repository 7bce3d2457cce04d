import re

import pytest

from sparseflow.errors import ConfigError
from sparseflow.hardware.facts import FactReader


def test_a_number_keeps_its_source():
    reader = FactReader("box.yaml")
    body = reader.mapping("the file", reader.parse('rate: {value: 2e9, source: "the label"}\n'))
    reader.keys(body, ("rate", "name"), ("rate",))
    assert reader.number("rate", body["rate"]) == 2e9
    assert reader.sources == {"rate": "the label"}


@pytest.mark.parametrize("value", ["-1", "yes", ".nan", ".inf", "many", "[1]"])
def test_what_is_no_finite_number_is_refused_by_place_and_key(value):
    reader = FactReader("box.yaml")
    entry = reader.parse(f'{{value: {value}, source: "the label"}}')
    with pytest.raises(ConfigError, match=re.escape("box.yaml: rate has value")):
        reader.number("rate", entry)


def test_faults_of_form():
    reader = FactReader("box.yaml")
    for broken in ("a: 1\na: 2\n", "{[1]: 2}", "a: [", "\0"):
        with pytest.raises(ConfigError, match="not valid YAML"):
            reader.parse(broken)
    for call in (
        lambda: reader.mapping("it", [1]),
        lambda: reader.keys({"size": 1}, ("rate",), ()),
        lambda: reader.keys({}, ("rate",), ("rate",)),
        lambda: reader.number("rate", 3.0),
        lambda: reader.number("rate", {"value": 3.0, "source": " "}),
        lambda: reader.word("name", 3),
        lambda: reader.words("names", "one"),
    ):
        with pytest.raises(ConfigError, match=r"box\.yaml: "):
            call()
    assert reader.table("t", {"a": {"value": 1, "source": "s"}}) == {"a": 1.0}
    assert reader.words("names", ["one"]) == ("one",)
