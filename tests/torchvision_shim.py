"""Lets torchvision import beside a torch without its compiled operators."""

import importlib.util

import torch

__all__ = ["install"]

_LIBRARIES: list[torch.library.Library] = []


def install() -> bool:
    """Declare the operators that torchvision looks for at import; safe to call twice.

    Returns:
        Whether torchvision can be imported afterwards.
    """
    if importlib.util.find_spec("torchvision") is None:
        return False
    if not _LIBRARIES and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
    return True
