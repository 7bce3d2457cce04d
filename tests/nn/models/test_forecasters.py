import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.nn.models.cmamba import CMamba, ModelArgs


def test_the_published_sizes_are_the_defaults():
    assert models.build("cmamba").args == ModelArgs.paper(7)
    assert models.names("forecasters") == ("cmamba",)
    assert models.arguments("cmamba") == ("num_channels", "forecast_len", "seq_len", "n_layer", "d_model")


def test_others_may_be_asked_for():
    model = models.build("cmamba", num_channels=3, forecast_len=5, seq_len=32, n_layer=1, d_model=8)
    assert isinstance(model, CMamba)
    assert model(torch.zeros(2, 3, 32)).shape == (2, 3, 5)
    with pytest.raises(ConfigError, match="num_channels"):
        models.build("cmamba", num_channels=0)
