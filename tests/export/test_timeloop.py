import math

import torch
import yaml

from sparseflow.export.timeloop import timeloop_problem, timeloop_problems
from sparseflow.trace import trace


def _workload():
    conv = torch.nn.Conv2d
    net = torch.nn.Sequential(
        conv(3, 16, 3, stride=2, padding=1), torch.nn.ReLU(), conv(16, 16, 3, padding=1), conv(16, 16, 3, padding=1),
        conv(16, 16, 3, groups=4, dilation=2), torch.nn.Flatten(), torch.nn.Linear(144, 9),
    )  # fmt: skip
    return trace(net, torch.zeros(2, 3, 13, 13))


def test_a_nest_has_the_layer_s_products_and_its_data():
    for layer in _workload():
        body = timeloop_problem(layer)
        if body is None:
            continue
        instance, shape = body["problem"]["instance"], body["problem"]["shape"]
        bias = layer.operand("output").numel
        assert 2 * math.prod(instance[d] for d in shape["dimensions"]) + bias == layer.flops
        spaces = {s["name"]: s["projection"] for s in shape["data_spaces"]}
        sizes = {name: math.prod(instance[p[0][0]] for p in spaces[name]) for name in ("Weights", "Outputs")}
        assert sizes == {"Weights": layer.operand("weight").numel, "Outputs": layer.operand("output").numel}


def test_documents_are_yaml_and_equal_nests_occur_once():
    text, left = timeloop_problems(_workload())
    bodies = list(yaml.safe_load_all(text))
    assert [b["problem"]["shape"]["name"] for b in bodies] == ["Conv2d", "Conv2d", "Conv2d", "Product"]
    assert bodies[0]["problem"]["instance"]["Hstride"] == 2
    assert bodies[2]["problem"]["instance"] | {"G": 4, "Wdilation": 2} == bodies[2]["problem"]["instance"]
    assert "2 times: 2, 3" in text
    assert "1" in left
    outputs = [s for s in bodies[0]["problem"]["shape"]["data_spaces"] if s.get("read_write")]
    assert [s["name"] for s in outputs] == ["Outputs"]
