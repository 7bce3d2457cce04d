import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn import layers

CASES = [
    (layers.Conv2d, nn.Conv2d, (3, 5, 3)),
    (layers.BatchNorm2d, nn.BatchNorm2d, (3,)),
    (layers.MaxPool2d, nn.MaxPool2d, (2,)),
    (layers.AvgPool2d, nn.AvgPool2d, (2,)),
    (layers.AdaptiveAvgPool2d, nn.AdaptiveAvgPool2d, ((1, 1),)),
]


@pytest.mark.parametrize(("ours", "torchs", "arguments"), CASES)
def test_a_sequence_is_the_steps_one_by_one(ours, torchs, arguments):
    layer, plain = ours(*arguments).eval(), torchs(*arguments).eval()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(4, 2, 3, 9, 7)
    torch.testing.assert_close(layer(x), torch.stack([plain(step) for step in x]))
    torch.testing.assert_close(layer(x[0]), plain(x[0]))
    assert isinstance(layer, torchs)


def test_batch_norm_takes_its_statistics_over_steps_and_batch():
    layer = layers.BatchNorm2d(3)
    out = layer(torch.randn(4, 2, 3, 9, 7) * 5 + 1)
    torch.testing.assert_close(out.mean((0, 1, 3, 4)), torch.zeros(3), atol=1e-5, rtol=0)


def test_repeat_gives_a_time_axis_without_a_copy():
    x = torch.rand(2, 3, 4, 4)
    out = layers.Repeat(5)(x)
    assert out.shape == (5, 2, 3, 4, 4)
    assert out.data_ptr() == x.data_ptr()
    events = torch.rand(7, 2, 3, 4, 4)
    assert layers.Repeat(5)(events) is events
    assert "steps=5" in repr(layers.Repeat(5))
    with pytest.raises(ConfigError, match="at least 1"):
        layers.Repeat(0)


def test_grid_rounds_to_binary_places_ties_to_even():
    x = torch.tensor([0.125, 0.375, -0.375, 1e-9, 100.26, float("inf")])
    assert layers.Grid(2)(x).tolist() == [0.0, 0.5, -0.5, 0.0, 100.25, float("inf")]
    assert "bits=2" in repr(layers.Grid(2))
    assert layers.Grid(0)(torch.rand(0, 3)).shape == (0, 3)
    for bits in (-1, 17):
        with pytest.raises(ConfigError, match="0 to 16"):
            layers.Grid(bits)
