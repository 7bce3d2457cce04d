import pytest

from examples import triseg_own_network


def test_it_names_the_places_in_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    triseg_own_network.main()
    out = capsys.readouterr().out
    assert out.startswith("6 activations of OwnNetwork can take three values: stem, wide, narrow, depthwise")
