import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from sparseflow.records import Key, Record, Store
from sparseflow.records._schema import Base, Row


@pytest.fixture
def database(tmp_path):
    store = Store(tmp_path / "r.sqlite")
    store.append(Record(key=Key(layer="l", decision="d", target="t", protocol="p"), value=1.0))
    engine = create_engine(store.url)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("statement", ["UPDATE sparseflow_record SET value = 0", "DELETE FROM sparseflow_record"])
def test_the_database_refuses_to_change_a_record(database, statement):
    with pytest.raises(IntegrityError, match="append-only"), database.begin() as connection:
        connection.execute(text(statement))


def test_the_database_refuses_a_record_without_value_and_failure(database):
    columns = ", ".join(c.name for c in Row.__table__.columns if c.name not in ("id", "value", "failure"))
    with pytest.raises(IntegrityError, match="value_or_failure"), database.begin() as connection:
        connection.execute(text(f"INSERT INTO sparseflow_record ({columns}) SELECT {columns} FROM sparseflow_record"))


def test_both_databases_get_the_same_columns():
    def columns(dialect):
        lines = str(CreateTable(Base.metadata.tables["sparseflow_record"]).compile(dialect=dialect)).splitlines()
        return [line.split()[0] for line in lines if line.startswith("\t")]

    assert columns(sqlite.dialect()) == columns(postgresql.dialect())
