"""Every environment variable that sparseflow reads, and the folders they name."""

import os
from pathlib import Path

__all__ = ["cache_folder", "cxx", "inherited", "processes", "quiet_profiler", "records_url"]


def cache_folder() -> Path:
    """Return the folder for what sparseflow may make again: records and host descriptions.

    `SPARSEFLOW_CACHE` if set, else `sparseflow` under `XDG_CACHE_HOME`, else
    `~/.cache/sparseflow`. The folder need not exist yet.
    """
    own = os.environ.get("SPARSEFLOW_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "sparseflow"


def cxx() -> str:
    """Return the C++ compiler that `CXX` names, or an empty text; torch.compile heeds it."""
    return os.environ.get("CXX", "")


def inherited(**more: str) -> dict[str, str]:
    """Return this process's environment with some variables set, for a child process."""
    return {**os.environ, **more}


def processes() -> tuple[int, int]:
    """Return how many processes `torchrun` started for one run, in all and on this machine; one without it.

    `WORLD_SIZE` and `LOCAL_WORLD_SIZE`.
    """
    return int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def quiet_profiler() -> None:
    """Keep torch's profiler from telling stderr of every start, unless `KINETO_LOG_LEVEL` is set."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def records_url() -> str:
    """Return the database URL of the record store.

    `SPARSEFLOW_RECORDS` if set (a path, or a URL as `postgresql+psycopg://…`),
    else `records.sqlite` in `cache_folder()`.
    """
    return os.environ.get("SPARSEFLOW_RECORDS") or str(cache_folder() / "records.sqlite")
