"""Two hundred random configurations against dense float32."""

import pytest

from sparseflow.ops._library import ABSENT, native
from sparseflow.ops.conv2d_spike.check import check_random_configs


@pytest.mark.skipif(native is None, reason=str(ABSENT))
@pytest.mark.slow
def test_two_hundred_random_configurations():
    outcomes = check_random_configs(200, seed=0)
    assert [o for o in outcomes if not o.ok] == []
    assert all(o.refusal is None for o in outcomes)
    compared = sum(o.spikes for o in outcomes)
    assert compared > 1_000_000
    assert sum(o.ambiguous for o in outcomes) < 0.01 * compared
