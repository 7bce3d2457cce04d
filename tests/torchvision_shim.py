"""Lets torchvision import beside a torch without its compiled operators."""

import importlib.util

from sparseflow.recipes.pick import _declare_torchvision

__all__ = ["install"]


def install() -> bool:
    """Declare the operators that torchvision looks for at import, where it does not bring them; safe to call twice.

    Returns:
        Whether torchvision can be imported afterwards.
    """
    _declare_torchvision()
    return importlib.util.find_spec("torchvision") is not None
