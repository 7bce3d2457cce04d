"""Opening the database of a record store, and putting its errors into words."""

import re
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from sparseflow.errors import ConfigError, RecordError

__all__ = ["connect", "mend", "normal"]

_BUSY_S = 30


def normal(url: str) -> URL:
    """Read a path or URL as an SQLAlchemy URL.

    Raises:
        ConfigError: it cannot be understood.

    >>> normal("postgresql://host/name").drivername
    'postgresql+psycopg'
    """
    if not url:
        raise ConfigError("the URL of the record store is empty; give a path or an SQLAlchemy URL")
    if "://" not in url:
        return URL.create("sqlite", database=str(Path(url).expanduser().absolute()))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The cause would show a password that stands in the URL.
        shown = re.sub(r"//[^@/]*@", "//***@", url)
        raise ConfigError(
            f"cannot understand record store URL {shown!r}; write kind://user@host:port/name, or a path"
        ) from None
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def connect(url: URL) -> Engine:
    """Return an engine that makes the file's folder and begins SQLite's transactions itself.

    Raises:
        ConfigError: the driver is missing or the kind of database unknown.
        RecordError: the folder cannot be made.
    """
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        folder = Path(str(url.database)).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise RecordError(f"cannot make folder {folder} for the record store: {e}; name another file") from e
    try:
        engine = create_engine(url)
    except ModuleNotFoundError as e:
        raise ConfigError(f"record store URL needs package {e.name}: pip install 'sparseflow[postgres]'") from e
    except (ArgumentError, NoSuchModuleError) as e:
        raise ConfigError(f"cannot use record store URL {url.render_as_string(hide_password=True)!r}: {e}") from e
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver's own transactions begin too late to hold a lock; `_begin_sqlite` begins them.
    connection.isolation_level = None
    for pragma in (f"busy_timeout={_BUSY_S * 1000}", "journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def mend(message: str, url: URL) -> str:
    """Return a database's complaint with what to do about it.

    >>> mend("database is locked", make_url("sqlite:///r.sqlite"))
    'held by another process for more than 30 s (database is locked); try again'
    """
    path = url.database
    if any(sign in message for sign in ("not a database", "malformed", "disk image", "disk I/O error")):
        return f"damaged ({message}); move it away (mv {path} {path}.damaged), a new one is made at the next run"
    if "readonly" in message or "unable to open" in message:
        return f"cannot be written ({message}); free the file or name another one with SPARSEFLOW_RECORDS"
    if "locked" in message:
        return f"held by another process for more than {_BUSY_S} s ({message}); try again"
    return f"{message.strip()}; check the URL, the server and your rights"
