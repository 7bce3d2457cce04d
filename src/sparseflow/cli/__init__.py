"""The command line: thin calls into the recipes."""

from sparseflow.cli.root import app

__all__ = ["app"]
