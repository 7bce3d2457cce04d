"""What every cost model must do. A new model adds one class below and overrides `make`."""

import dataclasses

import pytest

from sparseflow.cost import Analytical, Chain, CostModel, Measured, Timing
from sparseflow.ir import Cost, Decision, Layer, Operand, Plan, Target, Workload
from sparseflow.records import Store

TARGET = Target(
    name="desk",
    kind="cpu",
    peak_flops_per_s={"float32": 1e11},
    bw_bytes_per_s=2e10,
    memory_bytes=8e9,
    cores=2,
    launch_s=1e-6,
)
DENSE, EVENT = Decision(kernel="dense"), Decision(kernel="event")


def conv(name="c", channels=64, out=64, side=16, density=0.1, repeat=1):
    return Layer(
        name=name,
        op="conv2d",
        operands=(
            Operand(role="input", shape=(4, channels, side, side), density=density, structure="spikes"),
            Operand(role="weight", shape=(out, channels, 3, 3)),
            Operand(role="output", shape=(4, out, side, side)),
        ),
        attrs=(("padding", (1, 1)),),
        flops=2.0 * 4 * out * side * side * channels * 9,
        repeat=repeat,
    )


class CostModelSuite:
    """Base of the suite; not collected by itself."""

    def make(self):
        raise NotImplementedError

    @pytest.fixture
    def model(self):
        return self.make()

    def seconds(self, model, layer, decision=DENSE, target=TARGET):
        return model.predict_layer(layer, decision, target).latency_s

    def test_has_the_protocol(self, model):
        assert isinstance(model, CostModel)

    @pytest.mark.parametrize("decision", [Decision(), DENSE, EVENT])
    @pytest.mark.parametrize("density", [0.0, 0.02, 1.0, None])
    def test_costs_are_positive_seconds_with_a_source(self, model, decision, density):
        cost = model.predict_layer(conv(density=density), decision, TARGET)
        assert isinstance(cost, Cost)
        assert 1e-9 < cost.latency_s < 1.0
        assert cost.source in ("records", "measured", "learned", "analytical")
        assert cost.stdev is None or cost.stdev >= 0

    @pytest.mark.parametrize("decision", [DENSE, EVENT])
    @pytest.mark.parametrize("grows", ["channels", "out", "side"])
    def test_more_work_never_costs_less(self, model, decision, grows):
        costs = [self.seconds(model, conv(**{grows: n}), decision) for n in (8, 16, 32, 64)]
        assert costs == sorted(costs)
        assert costs[-1] > costs[0]

    def test_event_kernels_follow_the_density(self, model):
        costs = [self.seconds(model, conv(density=d), EVENT) for d in (0.0, 0.01, 0.1, 0.5, 1.0)]
        assert costs == sorted(costs)
        assert costs[-1] > costs[0]

    def test_dense_kernels_do_not(self, model):
        assert self.seconds(model, conv(density=0.01)) == self.seconds(model, conv(density=1.0))

    def test_a_faster_target_never_costs_more(self, model):
        fast = dataclasses.replace(TARGET, name="fast", peak_flops_per_s={"float32": 1e13}, bw_bytes_per_s=1e12)
        assert self.seconds(model, conv(), target=fast) < self.seconds(model, conv())

    def test_a_workload_is_the_sum_of_its_calls(self, model):
        workload = Workload(name="net", layers=(conv("a"), conv("b", repeat=3), conv("c", out=128)))
        plans = [
            Plan(workload_hash=workload.hash),
            Plan(workload_hash=workload.hash, decisions={"b": EVENT}),
        ]
        one, two = model.predict(workload, plans, TARGET)
        a, b, c = (self.seconds(model, layer, Decision()) for layer in workload)
        assert one.latency_s == pytest.approx(a + 3 * b + c)
        assert two.latency_s == pytest.approx(a + 3 * self.seconds(model, conv("b"), EVENT) + c)

    def test_no_plans_and_no_layers(self, model):
        assert model.predict(Workload(name="net", layers=(conv(),)), [], TARGET) == []
        empty = Workload(name="none", layers=())
        assert model.predict(empty, [Plan(workload_hash=empty.hash)], TARGET)[0].latency_s == 0.0

    def test_the_name_of_a_layer_does_not_matter(self, model):
        assert self.seconds(model, conv("a"), EVENT) == self.seconds(model, conv("b"), EVENT)


class TestAnalytical(CostModelSuite):
    def make(self):
        return Analytical()


class TestMeasured(CostModelSuite):
    def make(self):
        def stand_in(layer, decision, target):
            seconds = Analytical().predict_layer(layer, decision, target).latency_s
            return Timing.of([0.9 * seconds, seconds, 1.1 * seconds])

        return Measured(Store("sqlite://"), protocol="stand-in", time_layer=stand_in)


class TestChain(CostModelSuite):
    def make(self):
        return Chain([Measured(Store("sqlite://"), protocol="empty"), Analytical()])
