import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.report import Curve, SiteView, TriSegRun
from tests.report.triseg_run import made_triseg


def test_the_headline_says_bits_multiplies_and_loss():
    assert (
        made_triseg().headline
        == "2.16 bits an activation, 94.5\u202f% of multiplies gone, 1.23 points of accuracy lost on 10000 test images"
    )
    won = TriSegRun(title="", model="m", acc_teacher=90.0, acc_student=90.5, split="val", images=1)
    assert won.headline == "0.50 points of accuracy won on 1 val images"


def test_the_body_is_json():
    body = json.loads(json.dumps(made_triseg().to_dict(), allow_nan=False))
    assert body["schema"] == 1
    assert body["acc_drop"] == 1.23
    assert body["sites"][0]["codes"] == [7, 14, 21, 28, 35]


def test_lengths_and_order_are_checked():
    with pytest.raises(ConfigError, match="'a' has 3 counts"):
        SiteView(name="a", counts=(1, 2, 3), codes=(1, 2, 3, 4, 5))
    with pytest.raises(ConfigError, match="growing evaluations"):
        Curve(name="c", points=((2, -1.0), (1, -0.5)))
    with pytest.raises(ConfigError, match="as many lows"):
        Curve(name="c", points=((1, -1.0), (2, -0.5)), low=(1.0,))
