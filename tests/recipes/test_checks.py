import json
import math

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.checks import Check, checks_body


def make(value=3.0, rule=">=", bound=3.0):
    return Check(show="2", name="speed-up", value=value, unit="x", rule=rule, bound=bound)


@pytest.mark.parametrize(
    ("value", "rule", "ok"),
    [(3.0, ">=", True), (2.99, ">=", False), (3.01, "<=", False), (3.0, "==", True), (math.nan, ">=", False)],
)
def test_rules(value, rule, ok):
    assert make(value, rule).ok is ok


def test_body_is_json_and_fails_as_a_whole():
    body = checks_body([make(), make(math.inf)], rows=[1])
    assert not body["ok"]
    assert set(body["checks"][0]) == {"show", "name", "value", "unit", "target", "ok"}
    assert json.loads(json.dumps(body, allow_nan=False)) == body


def test_nothing_to_check_is_an_error():
    with pytest.raises(ConfigError, match="proves nothing"):
        checks_body([])


def test_unknown_rule():
    with pytest.raises(ConfigError, match="rule"):
        make(rule=">")
