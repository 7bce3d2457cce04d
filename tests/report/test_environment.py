import json
from types import SimpleNamespace

import torch

from sparseflow.report import describe


def test_the_machine_is_named_in_plain_strings():
    found = describe()
    assert {"System", "Python", "torch", "sparseflow", "Cores"} <= found.keys()
    assert all(isinstance(v, str) and v for v in found.values())
    json.dumps(found)


def test_a_gpu_in_use_is_named_with_what_drives_it(monkeypatch):
    assert "GPU" not in describe()
    device = SimpleNamespace(name="NVIDIA H200", multi_processor_count=132, total_memory=140 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    assert describe()["GPU"] == "NVIDIA H200, 132 multiprocessors, 140 GiB"
