import numpy as np
import pytest

from sparseflow.data import Series, csv_series
from sparseflow.errors import ConfigError, DataError


def read(tmp_path, text, **more):
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8")
    return csv_series(path, **more)


@pytest.mark.parametrize(
    ("text", "columns", "dates"),
    [
        ("date,a,b\n2020-01-01,1,2\n2020-01-02,3,4\n", ("a", "b"), ("2020-01-01", "2020-01-02")),
        ("\ufeffdate,a,b\r\n2020-01-01,1,2\r\n2020-01-02,3,4\r\n\r\n", ("a", "b"), ("2020-01-01", "2020-01-02")),
        ("a,b\n1,2\n3,4", ("a", "b"), None),
        ("1,2\n3,4\n", ("v0", "v1"), None),
        ("d1,1,2\nd2,3,4\n", ("v0", "v1"), ("d1", "d2")),
        # Electricity and Traffic name all columns but the last by numbers.
        ("date,0,OT\nd1,1,2\nd2,3,4\n", ("0", "OT"), ("d1", "d2")),
    ],
)
def test_headers_and_dates_are_told_from_numbers(tmp_path, text, columns, dates):
    s = read(tmp_path, text)
    assert (s.columns, s.dates, s.name, len(s)) == (columns, dates, "s", 2)
    assert s.values.tolist() == [[1, 2], [3, 4]]
    assert s.values.dtype == np.float64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("date,a\n", "no reading"),
        ("date,a\nd,1\nd,x\n", "line 3, column a: 'x'"),
        ("date,a\nd,1\nd,\n", "line 3, column a: a reading is missing"),
        ("date,a\nd,1\nd,nan\n", "line 3"),
        ("date,a\nd,1\nd,inf\n", "line 3"),
        ("date,a\nd,1\nd,1,2\n", "line 3: 2 numbers; expected 1"),
        ("date,a\nd,1,2\nd,1,2\n", "header names 1"),
        ("date,a,a\nd,1,2\nd,1,2\n", "header names 1"),
        ("a,b\n1,2\n3\n", "line 3: 1 numbers"),
        ("date,a\nd,1\n\nd,2\n", "line 3"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.csv"):
        csv_series(tmp_path / "nothing.csv")


def test_missing_readings_take_the_one_before(tmp_path):
    s = read(tmp_path, "a,b\n-9999,1\n5,nan\n-9999,\n7,4\n", missing=-9999)
    assert s.values.tolist() == [[5, 1], [5, 1], [5, 1], [7, 4]]
    with pytest.raises(DataError, match="b holds no reading"):
        read(tmp_path, "a,b\n1,-9\n2,-9\n", missing=-9)
    with pytest.raises(DataError, match="not finite"):
        read(tmp_path, "a,b\n1,2\n2,inf\n", missing=-9)


def test_columns_are_chosen_by_name(tmp_path):
    s = read(tmp_path, "date,a,b,c\nx,1,2,3\n")
    part = s.select(("c", "a"))
    assert (part.columns, part.values.tolist(), part.dates) == (("c", "a"), [[3, 1]], ("x",))
    for names in (("z",), ()):
        with pytest.raises(ConfigError, match="a, b, c"):
            s.select(names)


def test_a_series_checks_itself():
    good = {"name": "s", "values": np.ones((2, 1)), "columns": ("a",)}
    for bad in ({"values": np.ones(2)}, {"values": np.ones((0, 1))}, {"columns": ("a", "b")}, {"dates": ("x",)}):
        with pytest.raises(DataError):
            Series(**(good | bad))
