import pytest

from sparseflow.errors import ConfigError
from sparseflow.report.codesign import CodesignRun, Die

DIE = Die(slot=0, type="a", x_mm=0, y_mm=0, width_mm=2, height_mm=3, power_w=5, busy=0.5, memory_mb=1)


def test_plain_data_holds_all_but_the_picture():
    run = CodesignRun(title="t", headline="h", network="n", radius_mm=150, t_max_c=30, dies=(DIE,), heat=b"png")
    body = run.to_dict()
    assert "heat" not in body
    assert body["dies"][0]["width_mm"] == 2


def test_a_wafer_needs_a_die():
    with pytest.raises(ConfigError, match="die"):
        CodesignRun(title="t", headline="h", network="n", radius_mm=150, t_max_c=30, dies=())
