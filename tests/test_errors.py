import inspect

import pytest

from sparseflow import errors

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass)]


def test_all_names_every_error() -> None:
    assert sorted(errors.__all__) == sorted(c.__name__ for c in CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_one_except_clause_catches_every_error(cls: type[Exception]) -> None:
    with pytest.raises(errors.SparseFlowError, match="layer 'c1'"):
        raise cls("layer 'c1' is wrong")


@pytest.mark.parametrize("cls", [errors.ConfigError, errors.DataError])
def test_bad_values_are_value_errors_too(cls: type[Exception]) -> None:
    assert issubclass(cls, ValueError)
