"""Plan files: written whole, read back, and refused by name."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from sparseflow.errors import DataError
from sparseflow.export import read_plan, write_plan
from sparseflow.ops.int8_net import reference
from tests.ops.int8_net.test_program import small

ROOT = Path(__file__).resolve().parents[2]
CXX = shutil.which("c++") or shutil.which("g++")


def test_there_and_back(tmp_path):
    path = write_plan(small(metadata={"model": "small"}), tmp_path / "deep" / "net.plan.safetensors")
    x = torch.randn(2, 3, 5, 4)
    assert torch.equal(reference.run(read_plan(path), x), reference.run(small(), x))
    before = path.read_bytes()
    assert write_plan(read_plan(path), path).read_bytes() == before


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*nowhere.plan: No such file"):
        read_plan(tmp_path / "nowhere.plan")
    (tmp_path / "bad").write_bytes(b"0" * 100)
    with pytest.raises(DataError, match=r"bad: no plan of an integer network.*export the network again"):
        read_plan(tmp_path / "bad")
    with pytest.raises(DataError, match="cannot make the folder"):
        write_plan(small(), tmp_path / "bad" / "x")


@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
def test_the_example_in_c_predicts_from_the_file(tmp_path):
    engine = ("plan", "network", "kernels", "scalar", "c_interface")
    names = [*(f"engine/{name}.cpp" for name in engine), "nouns/json.cpp", "nouns/integer_isa.cpp"]
    sources = [str(ROOT / "csrc" / name) for name in names]
    flags = ["-O0", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Werror", "-ffp-contract=off", f"-I{ROOT / 'csrc'}"]
    example = str(ROOT / "examples" / "engine" / "predict.c")
    subprocess.run(
        ["cc", "-std=c99", "-pedantic", *flags, "-c", example, "-o", str(tmp_path / "predict.o")],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        [CXX, "-std=c++17", *flags, *sources, str(tmp_path / "predict.o"), "-o", str(tmp_path / "predict")],
        check=True, capture_output=True,
    )  # fmt: skip
    program, x = small(), torch.randn(70, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    plan = write_plan(program, tmp_path / "net.plan.safetensors")
    x.numpy().tofile(tmp_path / "x.f32")

    def run(*args):
        return subprocess.run([tmp_path / "predict", *args], capture_output=True, text=True)

    done = run(plan, tmp_path / "x.f32", tmp_path / "y.f32")
    want = reference.run(program, x)
    assert torch.equal(
        torch.frombuffer(bytearray((tmp_path / "y.f32").read_bytes()), dtype=torch.float32).view(70, 7), want
    )
    assert [int(line) for line in done.stdout.split()] == want.argmax(1).tolist()
    assert run("nowhere", tmp_path / "x.f32").stderr == "cannot read nowhere\n"
    (tmp_path / "cut").write_bytes(plan.read_bytes()[:300])
    assert "no valid plan: its header is cut off" in run(tmp_path / "cut", tmp_path / "x.f32").stderr
