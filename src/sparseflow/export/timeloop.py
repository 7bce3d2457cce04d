"""Workloads as Timeloop problems: each convolution and matrix product as a loop nest with its projections, in YAML."""

from typing import Any

import yaml

from sparseflow.ir import Layer, Workload

__all__ = ["timeloop_problem", "timeloop_problems"]

_VERSION = 0.4
_CONV = {
    "Weights": [[["G"]], [["M"]], [["C"]], [["R"]], [["S"]]],
    "Inputs": [
        [["N"]],
        [["G"]],
        [["C"]],
        [["R", "Hdilation"], ["P", "Hstride"]],
        [["S", "Wdilation"], ["Q", "Wstride"]],
    ],
    "Outputs": [[["N"]], [["G"]], [["M"]], [["P"]], [["Q"]]],
}
_PRODUCT = {
    "Weights": [[["M"]], [["C"]]],
    "Inputs": [[["N"]], [["C"]]],
    "Outputs": [[["N"]], [["M"]]],
}


def timeloop_problems(workload: Workload) -> tuple[str, tuple[str, ...]]:
    """Return a YAML document of each distinct convolution and matrix product, and the names of what has no loop nest.

    Documents are in the order of the network and carry comments: the layer's name, and how often the same nest occurs.
    A nest counts padding as if it were data, as Timeloop does.

    Args:
        workload: of `sparseflow.trace`.
    """
    nests: dict[str, tuple[list[str], dict[str, Any]]] = {}
    left: list[str] = []
    for layer in workload:
        problem = timeloop_problem(layer)
        if problem is None:
            left.append(layer.name)
            continue
        key = yaml.safe_dump(problem["problem"]["instance"]) + problem["problem"]["shape"]["name"]
        nests.setdefault(key, ([], problem))[0].extend([layer.name] * layer.repeat)
    documents = [
        f"# {names[0]}, {len(names)} time{'s' * (len(names) != 1)}: {', '.join(dict.fromkeys(names))}\n"
        + yaml.safe_dump(problem, sort_keys=False, default_flow_style=None)
        for names, problem in nests.values()
    ]
    return "---\n".join(documents), tuple(left)


def timeloop_problem(layer: Layer) -> dict[str, Any] | None:
    """Return one layer as Timeloop's `problem`, or None if it is neither a "conv2d" nor a "linear".

    >>> from sparseflow.ir import Operand
    >>> shapes = {"input": (2, 64), "weight": (10, 64), "output": (2, 10)}
    >>> layer = Layer(name="fc", op="linear", operands=tuple(Operand(role=r, shape=s) for r, s in shapes.items()))
    >>> timeloop_problem(layer)["problem"]["instance"]
    {'N': 2, 'C': 64, 'M': 10}
    """
    weight, out = layer.operand("weight"), layer.operand("output")
    if layer.op not in ("conv2d", "linear") or weight is None or out is None:
        return None
    if layer.op == "linear":
        wide, deep = weight.shape
        instance = {"N": out.numel // wide, "C": deep, "M": wide}
        return _problem("Product", "NCM", _PRODUCT, instance, {})
    groups = int(layer.attr("groups", 1))
    instance = dict(
        zip("NGMCRSPQ", (
            out.shape[0], groups, weight.shape[0] // groups, weight.shape[1], *weight.shape[2:], *out.shape[2:]
        ), strict=True)
    )  # fmt: skip
    (hs, ws), (hd, wd) = layer.attr("stride", (1, 1)), layer.attr("dilation", (1, 1))
    steps = {"Hstride": hs, "Wstride": ws, "Hdilation": hd, "Wdilation": wd}
    return _problem("Conv2d", "NGMCRSPQ", _CONV, instance, steps)


def _problem(
    name: str, dimensions: str, spaces: dict[str, Any], instance: dict[str, int], steps: dict[str, int]
) -> dict[str, Any]:
    spaces_of = [
        {"name": space, "projection": projection, **({"read_write": True} if space == "Outputs" else {})}
        for space, projection in spaces.items()
    ]
    shape: dict[str, Any] = {"name": name, "dimensions": list(dimensions)}
    if steps:
        shape["coefficients"] = [{"name": step, "default": 1} for step in steps]
    shape["data_spaces"] = spaces_of
    return {"problem": {"version": _VERSION, "shape": shape, "instance": {**instance, **steps}}}
