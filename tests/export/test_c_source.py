"""C sources against the reference, bit for bit, built by the C compiler of this machine."""

import random
import shutil
import subprocess

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.export import export_c
from sparseflow.ops.int8_net import Program, Step, Value, reference
from tests.ops.int8_net.test_cpp import images, layer_program
from tests.ops.int8_net.test_program import small
from tests.ops.int8_net.test_reference import one

CC = shutil.which("cc") or shutil.which("gcc")
compiler = pytest.mark.skipif(CC is None, reason="no C compiler")


def build(folder, name="net", *flags):
    sources = [str(p) for p in sorted(folder.glob("*.c"))]
    command = [CC, "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", *flags, *sources, "-o", folder / name]
    subprocess.run([*command, "-lm"], check=True, capture_output=True, text=True)
    return folder / name


def predict(folder, program, x, *flags):
    """Return the outputs and classes of the exported program."""
    export_c(program, folder)
    command = build(folder, "net", *flags)
    x.numpy().tofile(folder / "images.f32")
    done = subprocess.run(
        [command, folder / "images.f32", folder / "outputs.f32"], check=True, capture_output=True, text=True
    )
    got = torch.frombuffer(bytearray((folder / "outputs.f32").read_bytes()), dtype=torch.float32)
    return got.view(len(x), -1), [int(line) for line in done.stdout.split()]


def every_step() -> Program:
    """Return a network in which every operation stands."""
    g, table = torch.Generator().manual_seed(4), torch.arange(256).clamp(max=90).to(torch.uint8)
    shapes = [(3, 8, 6), (8, 8, 6), (8, 4, 3), (8, 8, 6), (16, 8, 6), (16, 4, 3), (16, 1, 1), (16, 4, 3)]
    zeros = [40, 0, 0, 9, 0, 0, 5, 0]
    values = [Value(name=f"v{i}", shape=s, zero=z) for i, (s, z) in enumerate(zip(shapes, zeros, strict=True))]
    values.append(Value(name="map", shape=(5, 4, 3), real=True))
    values.append(Value(name="logits", shape=(5, 1, 1), real=True))

    def layer(source, output, m, k, **settings):
        c = values[source].shape[0] // settings.get("groups", 1)
        weight = torch.randint(-127, 128, (m, c, k, k), generator=g).to(torch.int8)
        bias = torch.randn(m, generator=g) * 100
        return Step(
            op="layer", inputs=(source,), output=output, weight=weight, bias=bias, low=0, high=127,
            multiplier=torch.rand(m, generator=g) * 0.02, padding=(k // 2, k // 2), **settings,
        )  # fmt: skip

    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
    steps = (
        Step(op="quantize", inputs=(), output=0, ratios=(30.0,), low=0, high=127),
        layer(0, 1, 8, 3, table=table),
        Step(op="max_pool", inputs=(1,), output=2, **window),
        layer(1, 3, 8, 3, groups=8),
        Step(op="concat", inputs=(1, 3), output=4, ratios=(0.7, 1.3), high=127),
        Step(op="average_pool", inputs=(4,), output=5, ratios=(1.1,), high=127, include_padding=False, **window),
        Step(op="mean", inputs=(5,), output=6, ratios=(0.09,), high=127),
        Step(op="sum", inputs=(5, 5), output=7, ratios=(0.31, 0.77), high=127, table=table),
        layer(7, 8, 5, 1, clamp=6.0),
        Step(op="real_mean", inputs=(8,), output=9),
    )
    return Program(
        input=(3, 8, 6), values=tuple(values), steps=steps, output=9, output_shape=(5,), metadata={"note": "a */ b"}
    )


@compiler
def test_every_step_is_bit_exact(tmp_path):
    program, x = every_step(), torch.randn(40, 3, 8, 6, generator=torch.Generator().manual_seed(5))
    want = reference.run(program, x)
    got, classes = predict(tmp_path, program, x)
    assert torch.equal(got, want)
    assert classes == want.argmax(1).tolist()
    again, _ = predict(tmp_path, program, x, "-O3", "-march=native")
    assert torch.equal(again, want)


@compiler
@pytest.mark.parametrize("seed", range(4))
def test_random_layers_are_bit_exact(seed, tmp_path):
    program = layer_program(random.Random(200 + seed), real=seed == 0)
    x = images(program, 7, seed)
    want = reference.run(program, x)
    assert torch.equal(predict(tmp_path, program, x)[0], want.flatten(1))


@compiler
def test_logits_from_codes(tmp_path):
    step = Step(op="mean", inputs=(0,), output=1, ratios=(0.1,), low=0, high=255)
    program = one(step, (4, 3, 3), (4, 1, 1))
    x = images(program, 9, top=255)
    assert torch.equal(predict(tmp_path, program, x)[0], reference.run(program, x))


@compiler
def test_nan_and_missing_files_are_refused(tmp_path):
    export_c(small(), tmp_path)
    command = build(tmp_path)
    torch.full((60,), torch.nan).numpy().tofile(tmp_path / "bad.f32")
    done = subprocess.run([command, tmp_path / "bad.f32"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "an image has NaN\n")
    done = subprocess.run([command, tmp_path / "nowhere"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "No such file" in done.stderr
    assert subprocess.run([command], capture_output=True).returncode == 2


def test_names_and_files(tmp_path):
    files = {p.name for p in export_c(small(), tmp_path, "alexnet")}
    assert files == {"alexnet.h", "alexnet.c", "alexnet_w1.c", "alexnet_w2.c", "main.c", "Makefile"}
    text = (tmp_path / "alexnet.h").read_text()
    assert "#define ALEXNET_OUTPUTS 7" in text
    assert "static void max_pool" not in (tmp_path / "alexnet.c").read_text()
    export_c(every_step(), tmp_path, "alexnet")
    assert {p.name for p in tmp_path.glob("alexnet_w*.c")} == {f"alexnet_w{i}.c" for i in (1, 3, 8)}
    for bad in ("", "Net", "2net", "int", "a-b", "main"):
        with pytest.raises(ConfigError, match="expected a C identifier"):
            export_c(small(), tmp_path, bad)


def test_the_same_program_gives_the_same_sources(tmp_path):
    first = {p.name: p.read_bytes() for p in export_c(every_step(), tmp_path / "a")}
    assert first == {p.name: p.read_bytes() for p in export_c(every_step(), tmp_path / "b")}
