"""The example in C++ is built by its CMake files and forecasts what the reference does, bit for bit."""

import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sparseflow.data.forecast import Scaler
from sparseflow.export.fpga.corrupt import spoil
from sparseflow.export.fpga.pack import write_pack
from sparseflow.ir.qspec import QSpec
from sparseflow.nn.models.cmamba import ModelArgs
from sparseflow.nn.models.cmamba.int_ref import IntRef
from tests.export.fpga.networks import small

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpp_forecast"
SCALER = Scaler(mean=(0.1, -2.0, 3.5, 40.0, 0.0), std=(1.5, 0.25, 3.0, 7.0, 1.0))
NAMES = ["HUFL", "HULL", "MUFL", "MULL", "OT"]

pytestmark = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("c++") is None, reason="no CMake, or no C++ compiler"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    place = tmp_path_factory.mktemp("cpp_forecast")
    # Half the time of a release build; -Wno: gcc 12 warns of its own intrinsics.
    flags = "-O1 -Wall -Wextra -Werror -Wno-maybe-uninitialized -Wno-unknown-pragmas"
    for command in (
        ["cmake", "-S", str(EXAMPLE), "-B", str(place), "-DCMAKE_BUILD_TYPE=None", f"-DCMAKE_CXX_FLAGS={flags}"],
        ["cmake", "--build", str(place), "--parallel", "2"],
        ["cmake", "--install", str(place), "--prefix", str(place / "installed")],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    place = tmp_path_factory.mktemp("pack")
    spec, arrays, golden = small()
    note = {"readings": {"columns": NAMES, "mean": list(SCALER.mean), "std": list(SCALER.std)}}
    write_pack(place, QSpec(model=spec.model, tensors=spec.tensors, note=note), arrays, golden)
    return place


def run(built, *arguments):
    return subprocess.run([built / "forecast", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def table(values, names, path):
    lines = [",".join(["date", *names])]
    lines += [",".join([f"2026-01-{i:02}", *map(repr, map(float, row))]) for i, row in enumerate(values)]
    path.write_text("\r\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("isa", ["auto", "scalar"])
def test_it_forecasts_a_table_as_the_reference_does(built, pack, tmp_path, isa):
    spec, arrays, _ = small()
    values = np.random.default_rng(0).normal(size=(40, 5)).cumsum(0) * SCALER.std + SCALER.mean
    # Columns are found by name, wherever they stand; more of them do not matter.
    order = [4, 2, 0, 1, 3]
    wide = np.concatenate((values[:, order], values[:, :1]), 1)
    done = run(built, pack, table(wide, [*(NAMES[i] for i in order), "other"], tmp_path / "x.csv"), 2, isa)
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    seen = SCALER.scale(values[-32:]).T[None]
    ahead = IntRef(ModelArgs.from_dict(spec.model), arrays)(seen)[0].T
    assert body["columns"] == NAMES
    assert body["after"] == "2026-01-39"
    assert (np.array(body["values"]) == SCALER.unscale(ahead)).all()


def test_it_holds_a_pack_to_its_own_windows(built, pack):
    done = run(built, pack)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"numbers": 2 * 5 * 10, "unlike": 0})


def test_what_is_wrong_is_said(built, pack, tmp_path):
    short = table(np.zeros((31, 5)), NAMES, tmp_path / "short.csv")
    other = table(np.zeros((40, 5)), [*NAMES[:4], "X"], tmp_path / "other.csv")
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("a,b\n1\n")
    for arguments, message in (
        ((pack, short), "32 rows"), ((pack, other), "no column 'OT'"), ((pack, ragged), "row of 1 cells"),
        ((pack, tmp_path / "nowhere"), "cannot read"), ((tmp_path,), "manifest.json"),
        ((pack, other, 0, "mmx"), "'mmx'"),
    ):  # fmt: skip
        done = run(built, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
    assert run(built).returncode == 2
    spoilt = tmp_path / "pack"
    shutil.copytree(pack, spoilt)
    named = spoil(spoilt, "weights with a bit flipped")
    done = run(built, spoilt)
    assert done.returncode == 1
    assert named in done.stderr


def test_the_installed_library_is_found_and_exports_its_interface_alone(built, pack, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user LANGUAGES C)\n"
        "find_package(sparseflow_forecaster REQUIRED)\n"
        "add_executable(user user.c)\ntarget_link_libraries(user sparseflow::sparseflow_forecaster)\n"
    )
    (tmp_path / "user.c").write_text(
        "#include <capi/forecaster.h>\n#include <stdio.h>\nint main(int argc, char **argv) {\n"
        "  sparseflow_forecaster *f;\n  if (argc < 2 || sparseflow_forecaster_open(argv[1], 0, &f)) return 1;\n"
        '  printf("%d", (int)sparseflow_forecaster_horizon(f));\n  sparseflow_forecaster_close(f);\n  return 0;\n}\n'
    )
    for command in (
        ["cmake", "-S", str(tmp_path), "-B", str(tmp_path / "b"), f"-DCMAKE_PREFIX_PATH={built / 'installed'}",
         "-DCMAKE_C_FLAGS=-std=c99 -pedantic -Wall -Werror"],
        ["cmake", "--build", str(tmp_path / "b")],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run([tmp_path / "b" / "user", str(pack)], capture_output=True, text=True).stdout == "10"
    library = next((built / "installed").rglob("libsparseflow_forecaster.*"))
    assert ctypes.CDLL(str(library)).sparseflow_forecaster_abi() == 1
    if shutil.which("nm") and library.suffix != ".dylib":
        listed = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
        names = [line.split()[-1] for line in listed.stdout.splitlines() if " T " in line or " W " in line]
        assert names
        assert all(name.startswith("sparseflow_forecaster_") for name in names)
