"""The commit that a record was made at."""

import subprocess
from pathlib import Path

__all__ = ["commit"]


def commit() -> str | None:
    """Return the hash of the commit that this package is run from, or None outside of a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
