from typing import Any

import numpy as np
import pytest
import torch

from sparseflow.errors import DataError, UnsupportedError
from sparseflow.nn.models.cmamba import ModelArgs, build_model
from sparseflow.nn.models.cmamba.integers import Integers, Leaf, bind
from tests.nn.models.cmamba.small import SMALL, arrays, network, readings, spec


def test_every_primitive_has_an_integer_form() -> None:
    model = build_model(SMALL, "int8")
    bind(model, arrays())
    leaves = [m for m in model.modules() if not list(m.children()) and not isinstance(m, torch.nn.Identity)]
    assert all(isinstance(m, Leaf) for m in leaves)


def test_integers_go_through_the_same_forward() -> None:
    model = build_model(SMALL, "int8")
    bind(model, arrays())
    x = readings(3)
    found: Any = model(x)
    assert found.dtype == np.int64
    assert found.shape == (3, 3, 8)
    with torch.no_grad():
        want = network()(x).numpy()
    error = np.sqrt(np.mean((found / 2**16 - want) ** 2))
    assert error < 0.03 * np.sqrt(np.mean((want - x.numpy().mean(-1, keepdims=True)) ** 2))


def test_each_value_is_near_the_real_one() -> None:
    """Each tensor of the first block, scaled back, against a hook on the float network."""
    model, seen = build_model(SMALL, "int8"), {}
    bind(model, arrays(), seen.__setitem__)
    x = readings(4)
    model(x)
    real: dict[str, Any] = {}
    net = network()
    hooks = [
        m.register_forward_hook(lambda _, __, out, n=n: real.__setitem__(n, out)) for n, m in net.named_modules() if n
    ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    b = "encoder.layers.0."
    names = {
        "patch_embedding.position_embedding": 0.02, f"{b}norm": 0.02, f"{b}mixer.act": 0.03, f"{b}mixer.dt_proj": 0.03,
        f"{b}mixer.scan": 0.06, f"{b}mixer.out_proj": 0.06, f"{b}GDDMLP.add_scale": 0.08, f"{b}GDDMLP.gate": 0.05,
        f"{b}residual": 0.03, "encoder.act": 0.1, "head.linear": 0.1,
    }  # fmt: skip
    for name, allowed in names.items():
        tensor = spec()[name]
        got = seen[name] * tensor.step + tensor.offset
        want = real[name].numpy()
        error = np.sqrt(np.mean((got - want) ** 2) / np.mean((want - want.mean()) ** 2))
        assert error < allowed, (name, error)


def test_floats_and_their_integers_are_read_alike() -> None:
    model = build_model(SMALL, "int8")
    bind(model, arrays())
    x = (readings(2) * 2**16).round()
    from_floats: Any = model(x / 2**16)
    from_integers: Any = model(x.long().numpy())
    assert (from_floats == from_integers).all()


def test_readings_beyond_the_range_saturate() -> None:
    model, seen = build_model(SMALL, "int8"), {}
    bind(model, arrays(), seen.__setitem__)
    model(torch.full((1, 3, 32), 1e6))
    assert (seen["input"] == 2**24 - 1).all()
    assert (seen["standardize"] == 0).all()
    with pytest.raises(DataError):
        model(torch.full((1, 3, 32), float("nan")))


def test_missing_integers_are_named() -> None:
    model = build_model(SMALL, "int8")
    bind(model, {k: v for k, v in arrays().items() if k != "encoder.layers.1.mixer.scan.decay"})
    with pytest.raises(DataError, match=r"encoder\.layers\.1\.mixer\.scan\.decay"):
        model(readings(1))


def test_the_seed_variant_has_no_integers() -> None:
    with pytest.raises(UnsupportedError, match="seed"):
        build_model(ModelArgs(variant="seed"), "int8")
    assert isinstance(Integers().dropout(0.5), torch.nn.Identity)
