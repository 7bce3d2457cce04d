"""The C interface of `csrc/capi/forecaster.h`, called as any program would call it."""

import ctypes
import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p

import numpy as np
import pytest

from sparseflow.errors import DataError
from sparseflow.export.fpga.corrupt import CORRUPTIONS, spoil
from sparseflow.export.fpga.pack import read_pack, write_pack
from sparseflow.ir.qspec import QSpec
from sparseflow.nn.models.cmamba import ModelArgs, int_engine
from sparseflow.nn.models.cmamba.int_ref import IntRef
from tests.export.fpga.networks import small

pytestmark = pytest.mark.skipif(int_engine.ABSENT is not None, reason=str(int_engine.ABSENT))
GOOD, BAD_ARGUMENT, BAD_PACK = 0, 1, 2
SIGNATURES = {
    "abi": (c_int, []), "version": (c_char_p, []), "isas": (c_char_p, []), "error": (c_char_p, []),
    "open": (c_int, [c_char_p, c_char_p, POINTER(c_void_p)]),
    "open_memory": (c_int, [c_char_p, c_size_t, c_char_p, c_size_t, c_char_p, POINTER(c_void_p)]),
    "close": (None, [c_void_p]),
    "series": (c_int64, [c_void_p]), "readings": (c_int64, [c_void_p]), "horizon": (c_int64, [c_void_p]),
    "name": (c_char_p, [c_void_p, c_int64]), "mean": (c_double, [c_void_p, c_int64]),
    "deviation": (c_double, [c_void_p, c_int64]),
    "predict": (c_int, [c_void_p, c_void_p, c_void_p, c_int64, c_int]),
    "predict_codes": (c_int, [c_void_p, c_void_p, c_void_p, c_int64, c_int]),
    "check": (c_int, [c_void_p, c_int, POINTER(c_int64), POINTER(c_int64)]),
}  # fmt: skip


class Library:
    """The functions of the interface; a method for each."""

    def __init__(self):
        from sparseflow.ops import _native

        loaded = ctypes.CDLL(_native.__file__)
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(loaded, f"sparseflow_forecaster_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def opened(self, folder, isa=None):
        """Return status, handle and message."""
        handle = c_void_p()
        status = self.open(str(folder).encode(), isa, byref(handle))
        return status, handle, self.error().decode()

    def from_memory(self, manifest, weights):
        handle = c_void_p()
        status = self.open_memory(manifest, len(manifest), weights, len(weights), b"auto", byref(handle))
        return status, handle, self.error().decode()


@pytest.fixture(scope="module")
def lib():
    return Library()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pack")
    write_pack(place, *small())
    return place


@pytest.fixture(scope="module")
def reference():
    spec, arrays, _ = small()
    return IntRef(ModelArgs.from_dict(spec.model), arrays)


def windows(batch, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, 5, 32)).cumsum(-1)


def predict(lib, handle, x, threads=1):
    y = np.full((len(x), 5, 10), np.nan)
    assert lib.predict(handle, x.ctypes.data, y.ctypes.data, len(x), threads) == GOOD, lib.error()
    return y


def test_it_says_what_it_is(lib):
    assert lib.abi() == 1
    assert lib.version().count(b".") == 2
    assert lib.isas().decode().split() == int_engine.isas()


@pytest.mark.parametrize("isa", int_engine.isas() or ["scalar"])
def test_forecasts_of_the_reference(lib, folder, reference, isa):
    status, f, message = lib.opened(folder, isa.encode())
    assert status == GOOD, message
    assert (lib.series(f), lib.readings(f), lib.horizon(f)) == (5, 32, 10)
    numbers, unlike = c_int64(-1), c_int64(-1)
    assert lib.check(f, 2, byref(numbers), byref(unlike)) == GOOD
    assert (numbers.value, unlike.value) == (2 * 5 * 10, 0)
    ties = (np.arange(160).reshape(1, 5, 32) - 80.5) / 2**16
    for x in (windows(7), windows(3) * 400, ties, np.zeros((1, 5, 32)), windows(0)):
        assert (predict(lib, f, x, 2) == reference(x)).all()
    codes = np.rint(windows(3) * 2**16).astype(np.int32)
    out = np.empty((3, 5, 10), np.int32)
    assert lib.predict_codes(f, codes.ctypes.data, out.ctypes.data, 3, 1) == GOOD
    assert (out == reference.codes(codes)).all()
    lib.close(f)


def test_one_forecaster_serves_many_threads(lib, folder, reference):
    _, f, _ = lib.opened(folder)
    batches = [windows(4, seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: predict(lib, f, x), batches))
    assert all((y == reference(x)).all() for x, y in zip(batches, found, strict=True))
    lib.close(f)


def test_wrong_calls_are_refused(lib, folder):
    _, f, _ = lib.opened(folder)
    x, y = windows(1), np.empty((1, 5, 10))
    for arguments, message in (
        ((None, x.ctypes.data, y.ctypes.data, 1, 1), "no forecaster"),
        ((f, None, y.ctypes.data, 1, 1), "null"), ((f, x.ctypes.data, None, 1, 1), "null"),
        ((f, x.ctypes.data, y.ctypes.data, -1, 1), "negative"), ((f, x.ctypes.data, y.ctypes.data, 1, 0), "threads"),
        ((f, x.ctypes.data, y.ctypes.data, 1, 1025), "threads"),
    ):  # fmt: skip
        assert lib.predict(*arguments) == BAD_ARGUMENT
        assert message in lib.error().decode()
    for value in (np.nan, np.inf, -np.inf):
        x[0, 4, 31] = value
        assert lib.predict(f, x.ctypes.data, y.ctypes.data, 1, 1) == BAD_ARGUMENT
        assert "not finite" in lib.error().decode()
    large = np.full((1, 5, 32), 2**24, np.int32)
    assert lib.predict_codes(f, large.ctypes.data, y.ctypes.data, 1, 1) == BAD_ARGUMENT
    assert lib.opened(folder, b"mmx")[0] == BAD_ARGUMENT
    assert lib.open(None, None, byref(c_void_p())) == BAD_ARGUMENT
    assert lib.open(b"x", None, None) == BAD_ARGUMENT
    status, none, message = lib.opened(folder / "nowhere")
    assert (status, none.value) == (BAD_PACK, None)
    assert "nowhere" in message
    assert (lib.series(None), lib.deviation(None, 0), lib.name(None, 0)) == (0, 1.0, b"")
    lib.close(None)
    lib.close(f)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_spoilt_pack_is_refused_by_name(lib, folder, tmp_path, name):
    spoilt = tmp_path / "pack"
    shutil.copytree(folder, spoilt)
    named = spoil(spoilt, name)
    status, f, message = lib.opened(spoilt)
    assert (status, f.value) == (BAD_PACK, None)
    assert named in message


def changed(arrays, name, value):
    return {**arrays, name: np.full_like(arrays[name], value)}


def test_numbers_that_would_leave_tables_or_32_bits_are_refused(lib, tmp_path):
    """Packs whose hashes are right, but not what is in them."""
    spec, arrays, golden = small()
    at = "encoder.layers.0."
    for name, value in (
        (f"{at}mixer.in_proj.limit", 128), (f"{at}GDDMLP.pool.limit", 0), ("encoder.act.in.limit", 2**20),
        (f"{at}norm.eps", 0), (f"{at}norm.eps", -1), (f"{at}norm.eps", 2**62), (f"{at}mixer.scan.t", 9),
        ("head.linear.shift", 0), ("head.linear.shift", 63), ("head.linear.bias", 2**31 - 1), ("rsqrt.table", 16384),
        ("encoder.act.in.bias", 2**31 - 1),
    ):  # fmt: skip
        write_pack(tmp_path, spec, changed(arrays, name, value), golden)
        status, f, message = lib.opened(tmp_path)
        assert (status, f.value) == (BAD_PACK, None), name
        assert name.rsplit(".", 1)[0] in message
    for model in ({"d_model": 24}, {"seq_len": 4097}, {"num_channels": 2**40}, {"expand": 1e9}, {"variant": "seed"}):
        body = json.loads(spec.to_json())
        body["model"].update(model)
        write_pack(tmp_path, QSpec.from_json(json.dumps(body)), arrays, golden)
        assert lib.opened(tmp_path)[0] == BAD_PACK, model


def test_packs_in_memory(lib, folder, reference):
    manifest, weights = ((folder / name).read_bytes() for name in ("manifest.json", "weights.bin"))
    status, f, message = lib.from_memory(manifest, weights)
    assert status == GOOD, message
    assert (predict(lib, f, windows(2)) == reference(windows(2))).all()
    numbers, unlike = c_int64(-1), c_int64(-1)
    assert lib.check(f, 1, byref(numbers), byref(unlike)) == GOOD
    assert (numbers.value, unlike.value) == (0, 0)
    lib.close(f)


def test_spoilt_manifests_are_read_as_python_reads_them(lib, folder, tmp_path):
    """What Python refuses, C++ refuses; what only C++ refuses is a model, which Python reads later."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    whole, weights = (folder / "manifest.json").read_bytes(), (folder / "weights.bin").read_bytes()
    pieces = (b'"', b"{", b"]", b",", b"0", b"-", b"1e9", b"null", b"NaN", b"\\u00e9", b"\xff", b"\xc3\xa9",
              b"1.5", b"\t", b"9" * 30)  # fmt: skip
    rng = random.Random(4)
    outcomes = set()
    for _ in range(150):
        spoilt = bytearray(whole)
        at = rng.choice((rng.randrange(1200), rng.randrange(len(whole))))
        spoilt[at : at + rng.randrange(3)] = rng.choice((rng.choice(pieces), bytes([rng.randrange(256)]), b""))
        (tmp_path / "manifest.json").write_bytes(spoilt)
        status, f, message = lib.from_memory(bytes(spoilt), weights)
        lib.close(f)
        refusal = None
        try:
            read_pack(tmp_path, files=False)
        except DataError as e:
            refusal = str(e)
        if refusal is None:
            assert status == GOOD or "model" in message, message
        else:
            assert status == BAD_PACK or "'golden." in refusal, refusal
        outcomes.add(status)
    assert outcomes == {GOOD, BAD_PACK}


def test_the_scaler_comes_with_the_pack(lib, folder, tmp_path):
    spec, arrays, golden = small()
    readings = {"columns": list("abcdé"), "mean": [0.1, 1, 2, 3, 4], "std": [1.0, 2.0, 0.3, 4.0, 5.0]}
    with_scaler = QSpec(model=spec.model, tensors=spec.tensors, note={**spec.note, "readings": readings})
    write_pack(tmp_path, with_scaler, arrays, golden)
    _, f, _ = lib.opened(tmp_path)
    assert [lib.name(f, v).decode() for v in range(6)] == [*"abcdé", ""]
    assert [lib.mean(f, v) for v in range(-1, 6)] == [0.0, *readings["mean"], 0.0]
    assert [lib.deviation(f, v) for v in range(6)] == [*readings["std"], 1.0]
    lib.close(f)
    _, f, _ = lib.opened(folder)
    assert (lib.name(f, 0), lib.mean(f, 0), lib.deviation(f, 0)) == (b"", 0.0, 1.0)
    lib.close(f)
    for field, value in (("std", [1, 1, 0, 1, 1]), ("mean", [1, 2]), ("columns", [1] * 5), ("extra", 1)):
        spoilt = QSpec(model=spec.model, tensors=spec.tensors, note={"readings": {**readings, field: value}})
        write_pack(tmp_path, spoilt, arrays, golden)
        status, _, message = lib.opened(tmp_path)
        assert status == BAD_PACK
        assert "readings" in message
