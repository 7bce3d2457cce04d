import pytest

from sparseflow import ops
from sparseflow.cost import Measured, Timing, op_source
from sparseflow.errors import MeasurementError, UnsupportedError
from sparseflow.ir import INT8, Cost, Decision, Layer, Operand, Target
from sparseflow.records import Store

TARGET = Target(
    name="desk", kind="cpu", peak_flops_per_s={"float32": 1e11}, bw_bytes_per_s=2e10, memory_bytes=8e9, cores=2
)
LAYER = Layer(name="fc", op="linear", operands=(Operand(role="input", shape=(8, 64)),))
EVENT = Decision(kernel="event", schedule=(("block", 8),), precision=INT8)


@pytest.fixture
def store():
    return Store("sqlite://")


def timer(*seconds):
    left = list(seconds)
    return lambda layer, decision, target: Timing.of(left.pop(0))


def test_a_layer_is_timed_once_and_then_remembered(store):
    model = Measured(store, protocol="p", time_layer=timer([1.0, 2.0, 3.0]), run="r")
    first = model.predict_layer(LAYER, EVENT, TARGET)
    assert first == Cost(latency_s=2.0, stdev=pytest.approx(1.0 / 1.349), source="measured")
    again = model.predict_layer(LAYER, EVENT, TARGET)
    assert (again.latency_s, again.source) == (2.0, "records")
    (record,) = store
    assert record.stats == {"iqr_s": 1.0, "min_s": 1.0, "rounds": 3.0}
    assert (record.name, record.run, record.key) == ("fc", "r", model.key(LAYER, EVENT, TARGET))
    assert record.decision["kernel"] == "event"
    assert record.decision["precision"]["bits"] == 8


def test_several_records_give_their_median(store):
    for value in (1.0, 9.0, 2.0):
        other = Store("sqlite://")
        Measured(other, protocol="p", time_layer=timer([value])).predict_layer(LAYER, EVENT, TARGET)
        store.extend(other)
    assert Measured(store, protocol="p").predict_layer(LAYER, EVENT, TARGET).latency_s == 2.0


def test_what_differs_is_measured_anew(store):
    model = Measured(store, protocol="p", time_layer=timer(*([float(i)] for i in range(1, 9))))
    desk = Target(**{**{f: getattr(TARGET, f) for f in TARGET.__slots__}, "cores": 4})
    asked = [
        (LAYER, EVENT, TARGET),
        (LAYER, Decision(kernel="dense"), TARGET),
        (LAYER, EVENT, desk),
        (Layer(name="fc", op="linear", operands=()), EVENT, TARGET),
    ]
    assert [model.predict_layer(*a).latency_s for a in asked] == [1.0, 2.0, 3.0, 4.0]
    changed = Measured(store, protocol="p", time_layer=model.time_layer, source=lambda layer, decision: "new code")
    assert changed.predict_layer(LAYER, EVENT, TARGET).latency_s == 5.0
    assert Measured(store, protocol="q", time_layer=model.time_layer).predict_layer(*asked[0]).latency_s == 6.0


def test_a_failure_is_a_record_and_is_not_tried_again(store):
    def broken(layer, decision, target):
        raise RuntimeError("out of memory")

    model = Measured(store, protocol="p", time_layer=broken)
    with pytest.raises(MeasurementError, match="layer 'fc' cannot be timed: RuntimeError: out of memory"):
        model.predict_layer(LAYER, EVENT, TARGET)
    quiet = Measured(store, protocol="p", time_layer=timer([1.0]))
    with pytest.raises(MeasurementError, match="failed when it was recorded: RuntimeError: out of memory"):
        quiet.predict_layer(LAYER, EVENT, TARGET)
    assert len(store) == 1


def test_without_record_and_timer_it_says_so(store):
    with pytest.raises(UnsupportedError, match="layer 'fc' has no record on desk-"):
        Measured(store, protocol="p").predict_layer(LAYER, EVENT, TARGET)


def test_ctrl_c_is_no_failure(store):
    def interrupted(layer, decision, target):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Measured(store, protocol="p", time_layer=interrupted).predict_layer(LAYER, EVENT, TARGET)
    assert len(store) == 0


def test_the_source_tells_kernels_apart():
    assert ops.find(LAYER) is not None
    event, dense = op_source(LAYER, EVENT), op_source(LAYER, Decision())
    assert event != dense
    assert dense == op_source(LAYER, Decision(kernel="dense"))
    assert event == op_source(LAYER, EVENT)
