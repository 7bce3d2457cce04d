"""Modules are swapped by dotted name, all or none."""

import pytest
from torch import nn

from sparseflow.compress.sparsify.replace import get_module, replace_modules, set_module
from sparseflow.errors import ConfigError


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 1))


def test_get_and_set() -> None:
    net = _net()
    assert get_module(net, "") is net
    assert isinstance(get_module(net, "0.1"), nn.ReLU)
    set_module(net, "0.1", nn.Tanh())
    assert isinstance(get_module(net, "0.1"), nn.Tanh)


def test_names_what_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"no module '0\.7': '0' has no '7'"):
        get_module(_net(), "0.7")
    with pytest.raises(ConfigError, match="model itself"):
        set_module(_net(), "", nn.ReLU())


def test_all_or_none() -> None:
    net = _net()
    before = dict(net.named_modules())
    with pytest.raises(ConfigError):
        replace_modules(net, {"0.0": nn.Linear(2, 2), "nowhere": nn.ReLU()})
    assert dict(net.named_modules()) == before


def test_keeps_mode_and_sharing() -> None:
    shared = nn.ReLU().eval()
    net = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    new = nn.Tanh()
    replace_modules(net, {"a": new})
    assert get_module(net, "b.0") is new
    assert not new.training
