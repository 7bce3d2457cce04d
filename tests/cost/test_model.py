import pytest

from sparseflow.cost import Analytical, Chain, Measured, Timing, predict
from sparseflow.errors import ConfigError, MeasurementError, UnsupportedError
from sparseflow.ir import Cost, Decision, Layer, Operand, Plan, Target, Workload
from sparseflow.records import Store

TARGET = Target(
    name="desk", kind="cpu", peak_flops_per_s={"float32": 1e11}, bw_bytes_per_s=2e10, memory_bytes=8e9, cores=2
)


def layer(name, size=1000, repeat=1):
    return Layer(name=name, op="add", operands=(Operand(role="output", shape=(size,)),), repeat=repeat)


class Fixed:
    def __init__(self, cost):
        self.cost = cost

    def predict_layer(self, layer, decision, target):
        if isinstance(self.cost, Exception):
            raise self.cost
        return self.cost

    def predict(self, workload, plans, target):
        return predict(self, workload, plans, target)


WORKLOAD = Workload(name="net", layers=(layer("a"), layer("b", 2000, repeat=2)))
PLAN = Plan(workload_hash=WORKLOAD.hash)


def test_deviations_add_as_squares():
    model = Fixed(Cost(latency_s=1.0, stdev=3.0, source="measured"))
    (cost,) = model.predict(WORKLOAD, [PLAN], TARGET)
    assert cost.latency_s == 3.0
    assert cost.stdev == pytest.approx((9 + 36) ** 0.5)


def test_an_unknown_latency_is_never_taken_for_zero():
    with pytest.raises(ConfigError, match="Fixed gives no latency for layer 'a'"):
        Fixed(Cost(source="learned")).predict(WORKLOAD, [PLAN], TARGET)


def test_a_chain_names_every_source_and_asks_the_records_first():
    store = Store("sqlite://")
    measured = Measured(store, protocol="p", time_layer=lambda *_: Timing.of([7.0]))
    measured.predict_layer(layer("a"), Decision(), TARGET)
    chain = Chain([Measured(store, protocol="p"), Analytical()])
    assert chain.predict_layer(layer("a"), Decision(), TARGET) == Cost(latency_s=7.0, source="records")
    assert chain.predict_layer(layer("b", 2000), Decision(), TARGET).source == "analytical"
    (total,) = chain.predict(WORKLOAD, [PLAN], TARGET)
    assert total.source == "analytical+records"
    assert total.latency_s > 7.0


def test_a_layer_that_does_not_run_is_not_guessed():
    chain = Chain([Fixed(MeasurementError("out of memory")), Analytical()])
    with pytest.raises(MeasurementError, match="out of memory"):
        chain.predict_layer(layer("a"), Decision(), TARGET)


def test_a_chain_that_knows_nothing_gives_every_reason():
    chain = Chain([Fixed(UnsupportedError("no record")), Fixed(UnsupportedError("no formula"))])
    with pytest.raises(UnsupportedError, match="layer 'a' costs: Fixed: no record; Fixed: no formula"):
        chain.predict_layer(layer("a"), Decision(), TARGET)
    with pytest.raises(ConfigError, match="at least one"):
        Chain([])
