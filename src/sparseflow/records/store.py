"""The append-only store of measurements: SQLite by default, PostgreSQL by URL."""

import json
import os
import statistics
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Select, func, inspect, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from sparseflow.errors import ConfigError, RecordError
from sparseflow.ir.env import records_url
from sparseflow.records._connection import connect, mend, normal
from sparseflow.records._schema import SCHEMA, Base, Info, Row
from sparseflow.records.record import Key, Record

__all__ = ["Store"]

_IDS = 1 << 63
"""First number that no database gives a record."""
_FIELDS = ("layer", "decision", "target", "protocol", "source", "name", "run", "unit")


class Store:
    """Every measurement and every failure ever made, found by key.

    Records are only ever added; the database itself refuses an update or a
    deletion. Any number of processes may write at the same time (SQLite:
    write-ahead log and a wait of 30 s). A method may be called from any
    thread; after a fork parent and child may both go on. A store in memory,
    `sqlite://`, belongs to the thread that made it.

    Args:
        url: path of an SQLite file, or an SQLAlchemy URL such as
            `sqlite:///runs/records.sqlite` or
            `postgresql+psycopg://user@host/name`. None: what the environment
            variable `SPARSEFLOW_RECORDS` names, else a file in the user's
            cache folder. Folder, file and tables are made where missing.

    Raises:
        ConfigError: the URL cannot be understood or its driver is missing.
        RecordError: the store cannot be opened, is damaged, or was written
            with another schema.

    >>> store = Store("sqlite://")
    >>> key = Key(layer="conv", decision="event", target="cpu", protocol="rounds=3")
    >>> store.append(Record(key=key, value=0.5)).id
    1
    >>> store.best(layer="conv").value
    0.5
    """

    def __init__(self, url: str | Path | None = None) -> None:
        self._url = normal(str(url) if url is not None else records_url())
        self._engine = connect(self._url)
        self._process = os.getpid()
        with self._guard():
            try:
                self._create()
            except SQLAlchemyError:
                # Another process may have made the tables in between.
                self._create()

    def append(self, record: Record) -> Record:
        """Add one record and return it with its `id` and `created_at`.

        Raises:
            RecordError: the database refused it.
        """
        return self.extend([record])[0]

    def extend(self, records: Iterable[Record]) -> list[Record]:
        """Add several records in one transaction: all of them or none.

        Raises:
            RecordError: the database refused them.
        """
        now = datetime.now(UTC)
        rows = [_row(record, now) for record in records]
        with self._guard(), self._session(immediate=True) as session:
            session.add_all(rows)
            session.flush()
            kept = [_record(row) for row in rows]
            session.commit()
        return kept

    def find(self, key: Key) -> list[Record]:
        """Return the records of one key, oldest first."""
        wanted = select(Row).where(
            Row.layer == key.layer,
            Row.decision_key == key.decision,
            Row.target == key.target,
            Row.protocol == key.protocol,
            Row.source == key.source,
        )
        return self._read(wanted.order_by(Row.id))

    def records(self, *, limit: int | None = None, failed: bool | None = None, **only: str) -> list[Record]:
        """Return records, newest first.

        Args:
            limit: at most so many.
            failed: True for failures alone, False for values alone.
            **only: equality by layer, decision, target, protocol, source,
                name, run or unit; `device` takes a target's name with or
                without the hash that tells machines apart.

        Raises:
            ConfigError: an unknown filter.
        """
        wanted = _filtered(only)
        if failed is not None:
            wanted = wanted.where(Row.failure.is_not(None) if failed else Row.failure.is_(None))
        return self._read(wanted.order_by(Row.id.desc()).limit(None if limit is None else min(limit, _IDS - 1)))

    def get(self, id: int) -> Record:
        """Return one record by its number.

        Raises:
            RecordError: there is none.
        """
        found = self._read(select(Row).where(Row.id == id)) if 0 < id < _IDS else []
        if not found:
            raise RecordError(f"{self.place} has no record {id}; list them with `sparseflow records list`")
        return found[0]

    def get_top_k(self, k: int, **only: str) -> list[Record]:
        """Return the `k` best decisions, best first, each by its newest record.

        The value of a decision is the median of its records, so that one lucky
        measurement does not win; it replaces `value` in what is returned. A
        decision whose newest record is a failure is left out.

        Args:
            k: at most so many decisions.
            **only: equality as in `records`; name at least the layer.

        Raises:
            ConfigError: an unknown filter, or the records differ in unit.
        """
        newest: dict[tuple[str, str], list[Record]] = {}
        for record in self._read(_filtered(only).order_by(Row.id.desc())):
            newest.setdefault((record.key.layer, record.key.decision), []).append(record)
        alive = [group for group in newest.values() if group[0].failure is None]
        units = {record.unit for group in alive for record in group if record.failure is None}
        if len(units) > 1:
            raise ConfigError(f"cannot rank records in different units {sorted(units)}; filter by unit")
        ranked = sorted(((_median(group), group[0]) for group in alive), key=lambda pair: pair[0])
        return [_with_value(record, value) for value, record in ranked[:k]]

    def best(self, **only: str) -> Record | None:
        """Return the best decision as `get_top_k` ranks them, or None."""
        return next(iter(self.get_top_k(1, **only)), None)

    def __len__(self) -> int:
        """Return the number of records."""
        with self._guard(), self._session() as session:
            return session.scalar(select(func.count()).select_from(Row)) or 0

    def __iter__(self) -> Iterator[Record]:
        """Iterate over all records, oldest first."""
        return iter(self._read(select(Row).order_by(Row.id)))

    @property
    def url(self) -> str:
        """URL that opens the same store."""
        return self._url.render_as_string(hide_password=False)

    @property
    def place(self) -> str:
        """Path or URL for people, without a password."""
        if self._url.get_backend_name() == "sqlite":
            return f"record store {self._url.database or 'in memory'}"
        return f"record store {self._url.render_as_string(hide_password=True)}"

    def close(self) -> None:
        """Give back every connection; the store may still be used."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    def _read(self, wanted: Select[Row]) -> list[Record]:
        with self._guard(), self._session() as session:
            return [_record(row) for row in session.scalars(wanted)]

    def _session(self, *, immediate: bool = False) -> Session:
        if self._process != os.getpid():
            # Connections of the parent must not be used after a fork, nor closed.
            self._engine.dispose(close=False)
            self._process = os.getpid()
        return Session(self._engine.execution_options(immediate=immediate))

    def _create(self) -> None:
        ours = set(Base.metadata.tables)
        with self._engine.execution_options(immediate=True).begin() as connection:
            there = set(inspect(connection).get_table_names())
            if not ours <= there:
                if there and connection.dialect.name == "sqlite":
                    raise RecordError(
                        f"{self.place} is a database of something else (tables {', '.join(sorted(there))}); "
                        "name another file"
                    )
                Base.metadata.create_all(connection)
                connection.execute(Info.__table__.insert().values(name="schema", value=str(SCHEMA)))  # type: ignore[attr-defined]
            found = connection.scalar(select(Info.value).where(Info.name == "schema"))
        if found != str(SCHEMA):
            raise RecordError(
                f"{self.place} has schema {found}, this sparseflow reads schema {SCHEMA}; "
                "export it with the version that wrote it, or name another file"
            )

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as e:
            raise RecordError(f"{self.place}: {mend(str(getattr(e, 'orig', None) or e), self._url)}") from e


def _filtered(only: dict[str, str]) -> Select[Row]:
    wanted = select(Row)
    for name, value in only.items():
        if name == "device":
            wanted = wanted.where(or_(Row.target == value, Row.target.startswith(f"{value}-", autoescape=True)))
        elif name in _FIELDS:
            wanted = wanted.where(getattr(Row, "decision_key" if name == "decision" else name) == value)
        else:
            raise ConfigError(f"records have no filter {name!r}; there are device, {', '.join(_FIELDS)}")
    return wanted


def _median(group: list[Record]) -> float:
    return statistics.median(record.value for record in group if record.value is not None)


def _with_value(record: Record, value: float) -> Record:
    return Record.from_dict({**record.to_dict(), "value": value})


def _row(record: Record, now: datetime) -> Row:
    try:
        decision, stats = (
            json.dumps(dict(x), sort_keys=True, allow_nan=False) for x in (record.decision, record.stats)
        )
    except (TypeError, ValueError) as e:
        raise ConfigError(f"the decision of record {record.name or record.key.layer!r} is not plain JSON: {e}") from e
    return Row(
        created_at=now,
        layer=record.key.layer,
        decision_key=record.key.decision,
        target=record.key.target,
        protocol=record.key.protocol,
        source=record.key.source,
        name=record.name,
        value=record.value,
        unit=record.unit,
        failure=record.failure,
        decision=decision,
        stats=stats,
        run=record.run,
    )


def _record(row: Row) -> Record:
    created = row.created_at
    return Record(
        key=Key(
            layer=row.layer,
            decision=row.decision_key,
            target=row.target,
            protocol=row.protocol,
            source=row.source,
        ),
        value=row.value,
        unit=row.unit,
        failure=row.failure,
        name=row.name,
        decision=json.loads(row.decision),
        stats=json.loads(row.stats),
        run=row.run,
        id=row.id,
        created_at=created if created.tzinfo else created.replace(tzinfo=UTC),
    )
