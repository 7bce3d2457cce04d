"""Tables of the record store, the same on SQLite and PostgreSQL."""

from datetime import datetime

from sqlalchemy import DDL, CheckConstraint, DateTime, Float, Index, Integer, String, Text, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["SCHEMA", "Base", "Info", "Row"]

SCHEMA = 1


class Base(DeclarativeBase):
    """Root of the tables."""


class Info(Base):
    """Facts about the store itself, by name."""

    __tablename__ = "sparseflow_info"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Row(Base):
    """One record; `decision` and `stats` hold canonical JSON."""

    __tablename__ = "sparseflow_record"
    __table_args__ = (
        CheckConstraint("(value IS NULL) <> (failure IS NULL)", name="value_or_failure"),
        Index("sparseflow_record_by_key", "layer", "target", "protocol", "source", "decision_key"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    layer: Mapped[str] = mapped_column(Text)
    decision_key: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    protocol: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    value: Mapped[float | None] = mapped_column(Float)
    unit: Mapped[str] = mapped_column(String(32))
    failure: Mapped[str | None] = mapped_column(Text)
    decision: Mapped[str] = mapped_column(Text)
    stats: Mapped[str] = mapped_column(Text)
    run: Mapped[str] = mapped_column(Text)


for _verb in ("UPDATE", "DELETE"):
    event.listen(
        Row.__table__,
        "after_create",
        DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER IF NOT EXISTS sparseflow_record_no_{_verb.lower()} BEFORE {_verb} ON sparseflow_record "
            "BEGIN SELECT RAISE(ABORT, 'records are append-only'); END"
        ).execute_if(dialect="sqlite"),
    )
for _statement in (
    "CREATE OR REPLACE FUNCTION sparseflow_record_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'records are append-only'; END $$",
    "CREATE OR REPLACE TRIGGER sparseflow_record_append_only BEFORE UPDATE OR DELETE ON sparseflow_record "
    "FOR EACH ROW EXECUTE FUNCTION sparseflow_record_append_only()",
):
    event.listen(Row.__table__, "after_create", DDL(_statement).execute_if(dialect="postgresql"))  # type: ignore[no-untyped-call]
