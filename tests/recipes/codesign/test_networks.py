"""Whole networks come with the layers that stand for them."""

import torch

from sparseflow.recipes.codesign import networks
from sparseflow.recipes.codesign.networks import subjects

CPU = torch.device("cpu")


def test_networks_run_and_their_layers_are_of_the_batch(monkeypatch):
    monkeypatch.setitem(networks._PLANS, "cpu", networks._PLANS["cpu"][1:])
    found = list(subjects(CPU))
    assert [s.name for s in found] == ["CMamba ETT B4 float32", "ResNet-18 B1 float32"]
    for subject in found:
        with torch.no_grad():
            assert subject.model(subject.sample).isfinite().all()
        assert subject.layers
    scan = next(s for s in found[0].layers if s.kind == "scan")
    assert scan.batch == 4 * scan.attr("series")


def test_what_is_held_is_left_out(monkeypatch):
    monkeypatch.setitem(networks._PLANS, "cpu", networks._PLANS["cpu"][2:])
    assert list(subjects(CPU, ["ResNet-18 B1 float32"])) == []


def test_both_kinds_of_device_have_the_three_families():
    for plan in networks._PLANS.values():
        names = " ".join(entry[0] for entry in plan)
        assert all(family in names for family in ("ViT-B", "CMamba", "ResNet"))
