from pathlib import Path

import pytest

from sparseflow.cli._options import settings_file
from sparseflow.errors import ConfigError


def test_a_settings_file_is_named_once():
    a, b = Path("a.yaml"), Path("b.yaml")
    assert settings_file(a, None) == a
    assert settings_file(None, b) == b
    assert settings_file(None, None) is None
    with pytest.raises(ConfigError, match="two settings files"):
        settings_file(a, b)
