import json

from sparseflow.report import describe


def test_the_machine_is_named_in_plain_strings():
    found = describe()
    assert {"System", "Python", "torch", "sparseflow", "Cores"} <= found.keys()
    assert all(isinstance(v, str) and v for v in found.values())
    json.dumps(found)
