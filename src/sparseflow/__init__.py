"""sparseflow takes a PyTorch model and makes it measurably cheaper on real hardware, with proof."""

from importlib.metadata import version

# The room of this name comes first: importing it later would bind it over the function.
import sparseflow.trace  # noqa: F401  # isort: skip
from sparseflow.api import optimize, trace

__all__ = ["__version__", "optimize", "trace"]

__version__ = version("sparseflow")
