"""The C++ engine against the reference, bit for bit, on every instruction set and way to skip zeros."""

import functools
import itertools
import json
import random
import threading

import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.int8_net import Engine, Program, Step, Value, cpp, isas, reference
from tests.ops.int8_net.test_program import small
from tests.ops.int8_net.test_reference import one

pytestmark = pytest.mark.skipif(cpp.ABSENT is not None, reason=str(cpp.ABSENT))
# Every way to skip on the best instruction set, the main ones on the others.
WAYS = [
    (isa, skip)
    for isa, skip in itertools.product(isas(), cpp.SKIPS)
    if isa == isas()[-1] or skip in ("never", "one", "two_across")
]


def layer_program(rng: random.Random, *, channels=None, outputs=None, real=False, sparse=False, top=127) -> Program:
    g = torch.Generator().manual_seed(rng.randrange(1 << 30))
    groups = rng.choice([1, 1, 1, 2, 3])
    c = groups * (channels or rng.choice([1, 2, 3, 4, 5, 8, 13, 16, 33]))
    m = groups * (outputs or rng.choice([1, 3, 4, 15, 16, 17, 40, 64, 65]))
    if rng.random() < 0.25:
        groups = m = c
    kh, kw, dh, dw = rng.choice([1, 2, 3, 5]), rng.choice([1, 2, 3, 5]), rng.choice([1, 1, 2]), rng.choice([1, 1, 2])
    ph, pw, sh, sw = rng.randint(0, 3), rng.randint(0, 3), rng.choice([1, 2, 3]), rng.choice([1, 2])
    h, w = dh * (kh - 1) + rng.randint(1, 7), dw * (kw - 1) + rng.randint(1, 7)
    ho, wo = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    zero_in, zero = rng.choice([0, 0, 7, top]), rng.choice([0, 0, 5])
    weight = torch.randint(-127, 128, (m, c // groups, kh, kw), generator=g)
    if sparse:
        weight *= torch.randint(0, 2, weight.shape, generator=g)
    reach = 127 * top * (c // groups) * kh * kw
    bias = torch.randn(m, generator=g) * 0.1 * reach
    whole = rng.random() < 0.5
    table = torch.randint(0, top + 1, (256,), generator=g).to(torch.uint8) if rng.random() < 0.5 and not real else None
    low = rng.choice([zero, 0])
    step = Step(
        op="layer", inputs=(0,), output=1, weight=weight.to(torch.int8), bias=bias.round() if whole else bias,
        multiplier=(torch.rand(m, generator=g) - 0.3) * 400 / reach, integer_bias=whole, groups=groups,
        stride=(sh, sw), padding=(ph, pw), dilation=(dh, dw), low=low, high=top, table=table,
        clamp=rng.choice([None, float("inf"), 3.0]) if real else None,
    )  # fmt: skip
    program = one(step, (c, h, w), (m, ho, wo), zero=zero_in, real=real)
    values = (
        program.values[0],
        Value(name="y", shape=(m, ho, wo), zero=0 if real else zero, real=real),
        *program.values[2:],
    )
    first = Step(op="quantize", inputs=(), output=0, ratios=(1.0,), low=0, high=top)
    return Program(
        input=program.input, values=values, steps=(first, *program.steps[1:]), output=program.output,
        output_shape=program.output_shape,
    )  # fmt: skip


def images(program: Program, n: int, seed: int = 0, *, zeros: float = 0.5, top: int = 127):
    g = torch.Generator().manual_seed(seed)
    zero = program.values[0].zero
    codes = torch.randint(0, top + 1, (n, *program.input), generator=g)
    kept = torch.rand(codes.shape, generator=g) >= zeros
    return torch.where(kept, codes, 0).float() - zero


def agree(program: Program, x, *, ways=WAYS, why=""):
    want = reference.values(program, x)
    for isa, skip in ways:
        engine = Engine(program, isa=isa, skip=skip)
        got = engine(x)
        if not torch.equal(got, want[program.output].reshape(got.shape)):
            wrong = [
                v.name for i, v in enumerate(program.values)
                if not v.real and not torch.equal(engine.codes(x, v.name).double(), want[i])
            ]  # fmt: skip
            raise AssertionError(f"{isa}, {skip}: other outputs; other codes at {wrong} {why}")


@pytest.mark.parametrize("seed", range(20))
def test_random_layers(seed):
    rng = random.Random(seed)
    program = layer_program(rng, real=seed % 3 == 0, sparse=seed % 2 == 0)
    agree(program, images(program, rng.choice([1, 2, 3, 5, 9]), seed, zeros=rng.choice([0.0, 0.5, 0.95])))


@pytest.mark.parametrize("seed", range(30, 38))
def test_codes_up_to_255(seed):
    rng = random.Random(seed)
    program = layer_program(rng, top=255)
    agree(program, images(program, 3, seed, zeros=0.3, top=255))


@pytest.mark.parametrize("channels", [16, 64])
@pytest.mark.parametrize("zeros", [0.0, 0.6, 0.9, 1.0])
def test_wide_layers_in_which_zeros_are_many(channels, zeros):
    program = layer_program(random.Random(3), channels=channels, outputs=80)
    for n in (1, 3, 26):
        agree(program, images(program, n, n, zeros=zeros))


def test_the_largest_sums():
    weight = torch.full((3, 1024, 1, 1), 127).to(torch.int8)
    weight[1] = -127
    weight[2, ::2] = -128
    step = Step(
        op="layer", inputs=(0,), output=1, weight=weight, bias=torch.tensor([2.0**22, -(2.0**22), 0.5]),
        multiplier=torch.tensor([1e-5, -1e-5, 1.0]), low=0, high=255,
    )  # fmt: skip
    for top in (127, 255):
        program = one(step, (1024, 1, 1), (3, 1, 1))
        x = torch.full((2, 1024, 1, 1), float(top))
        agree(program, x)


def test_halves_are_rounded_to_even():
    step = Step(
        op="layer", inputs=(0,), output=1, weight=torch.ones(1, 1, 1, 1, dtype=torch.int8), bias=torch.zeros(1),
        multiplier=torch.full((1,), 0.5), low=0, high=127,
    )  # fmt: skip
    program = one(step, (1, 1, 8), (1, 1, 8))
    x = torch.arange(8.0).view(1, 1, 1, 8)
    agree(program, x)
    assert Engine(program)(x).flatten().tolist() == [0, 0, 1, 2, 2, 2, 3, 4]


@pytest.mark.parametrize("seed", range(8))
def test_pools_sums_means_and_joins(seed):
    rng = random.Random(100 + seed)
    c, h, w, zero = rng.choice([1, 3, 16, 70]), rng.randint(3, 9), rng.randint(3, 9), rng.choice([0, 9])
    kernel, stride, pad = (rng.randint(2, 3), rng.randint(2, 3)), (rng.randint(1, 2), rng.randint(1, 2)), (1, 1)
    out = tuple((s + 2 - k) // t + 1 for s, k, t in zip((h, w), kernel, stride, strict=True))
    window = {"kernel": kernel, "stride": stride, "padding": pad}
    table = torch.randint(0, 256, (256,), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    coded = {"low": 0, "high": rng.choice([127, 255]), "table": table if seed % 2 else None}
    average = functools.partial(Step, op="average_pool", inputs=(0,), output=1)
    steps = (
        (Step(op="max_pool", inputs=(0,), output=1, **window), (c, *out)),
        (average(ratios=(0.7,), include_padding=seed % 2 == 0, **window, **coded), (c, *out)),
        (average(ratios=(1.7,), divisor=5, **window, **coded), (c, *out)),
        (Step(op="mean", inputs=(0,), output=1, ratios=(0.05,), **coded), (c, 1, 1)),
        (Step(op="sum", inputs=(0, 0, 0), output=1, ratios=(0.31, 0.5, 0.77), **coded), (c, h, w)),
        (Step(op="concat", inputs=(0, 0), output=1, ratios=(0.31, 1.5), **coded), (2 * c, h, w)),
    )  # fmt: skip
    for step, shape in steps:
        program = one(step, (c, h, w), shape, zero=zero)
        middle = Value(name="y", shape=shape, zero=zero if step.op == "max_pool" else 4)
        program = Program(
            input=program.input, values=(program.values[0], middle, program.values[2]), steps=program.steps,
            output=2, output_shape=program.output_shape,
        )  # fmt: skip
        agree(program, images(program, 5, seed, top=255), ways=[(isa, "best") for isa in isas()], why=step.op)


def test_threads_and_batches_change_nothing():
    program = layer_program(random.Random(8), channels=16, outputs=40)
    x = images(program, 50)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = Engine(program)(x)
        for threads in (2, 3, 5):
            torch.set_num_threads(threads)
            for n in (0, 1, 2, 4, 13, 50):
                assert torch.equal(Engine(program)(x[:n]), want[:n]), (threads, n)
    finally:
        torch.set_num_threads(before)


def test_one_engine_serves_several_threads():
    program = small()
    engine, x = Engine(program), torch.randn(40, 3, 5, 4)
    want, wrong = engine(x), []

    def work():
        wrong.extend(1 for _ in range(30) if not torch.equal(engine(x), want))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_bad_calls_are_named():
    engine = Engine(small())
    with pytest.raises(ConfigError, match=r"images have shape \(2, 3, 5, 5\); expected \['N', 3, 5, 4\]"):
        engine(torch.zeros(2, 3, 5, 5))
    with pytest.raises(ConfigError, match=r"images are torch\.float64"):
        engine(torch.zeros(2, 3, 5, 4, dtype=torch.float64))
    with pytest.raises(DataError, match="1 elements of the images are NaN"):
        engine(torch.full((1, 3, 5, 4), 1.0).index_fill(3, torch.tensor([0]), 1.0).masked_fill_(_first(), torch.nan))
    with pytest.raises(ConfigError, match="'logits' is real"):
        engine.codes(torch.zeros(1, 3, 5, 4), "logits")
    with pytest.raises(ConfigError, match="isa is 'sse9'"):
        Engine(small(), isa="sse9")
    with pytest.raises(ConfigError, match="skip is 'some'"):
        Engine(small(), skip="some")


def _first():
    mask = torch.zeros(1, 3, 5, 4, dtype=torch.bool)
    mask[0, 0, 0, 0] = True
    return mask


def broken(change) -> bytes:
    data = small().to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    plan = json.loads(header["__metadata__"]["int8_net"])
    change(header, plan)
    header["__metadata__"]["int8_net"] = json.dumps(plan)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _set(*path, to):
    def change(header, plan):
        at = header if path[0] == "header" else plan
        for key in path[1:-1] if path[0] == "header" else path[:-1]:
            at = at[key]
        at[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("version", to=2), "version is other than 1"),
        (_set("steps", 1, "op", to="magic"), "step 'magic' is not known"),
        (_set("steps", 1, "inputs", to=[2]), "read before it is made"),
        (_set("steps", 1, "inputs", to=[7]), "no whole number of 0 to 2"),
        (_set("steps", 1, "inputs", to=[]), "wrong number of inputs"),
        (_set("steps", 1, "output", to=0), "made twice"),
        (_set("steps", 1, "stride", to=[2, 1]), "another size than its step makes"),
        (_set("steps", 1, "stride", to=[0, 1]), "no whole number"),
        (_set("steps", 1, "groups", to=2), "weight's shape does not fit"),
        (_set("steps", 1, "weight", to="nowhere"), "no tensor 'nowhere'"),
        (_set("steps", 1, "table", to="1.weight"), "is I8, expected U8"),
        (_set("steps", 0, "ratios", to=[]), "wrong number of ratios"),
        (_set("values", 1, "shape", to=[2, 5, 400]), "another size"),
        (_set("values", 1, "zero", to=256), "no whole number of 0 to 255"),
        (_set("output", to=1), "the output is no real number"),
        (_set("header", "1.weight", "data_offsets", to=[0, 10**9]), "no whole number"),
        (_set("header", "1.weight", "shape", to=[2, 3, 3, 300]), "has 54 bytes"),
        (_set("header", "1.bias", "dtype", to="I8"), "is I8, expected F32"),
    ],
)
def test_inconsistent_plans_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        cpp.native.Network(broken(change))


def test_cut_and_spoilt_plans_do_not_crash():
    data, rng = small().to_bytes(), random.Random(0)
    for n in range(0, len(data), 37):
        with pytest.raises(ValueError, match=r"plan|JSON|elements|bytes"):
            cpp.native.Network(data[:n])
    for _ in range(300):
        spoilt = bytearray(data)
        spoilt[rng.randrange(len(data))] = rng.randrange(256)
        try:
            cpp.native.Network(bytes(spoilt))
        except ValueError:
            continue
