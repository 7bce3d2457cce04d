import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.cmamba.files import FORMATS, Stored, read_stored, write_stored

ENDINGS = tuple(FORMATS)


def drawn() -> Stored:
    tensors = {
        "b.weight": torch.randn(3, 4), "a": torch.tensor(2.5), "c.none": torch.zeros(0, 7),
        "d.half": torch.randn(5).half(),
        "e.whole": torch.arange(6).view(2, 3), "f.bytes": torch.tensor([-1, 3], dtype=torch.int8),
        "g.flag": torch.tensor([True, False]), "h.view": torch.randn(4, 6)[1:3, ::2], "i.big": torch.randn(64, 64),
    }  # fmt: skip
    return Stored(tensors=tensors, metadata={"record": {"mse": 0.1 + 0.2, "name": "größer"}, "args": {"d_model": 8}})


def same(a: Stored, b: Stored) -> bool:
    equal = all(torch.equal(a.tensors[k], b.tensors[k]) and a.tensors[k].dtype == b.tensors[k].dtype for k in a.tensors)
    return equal and a.tensors.keys() == b.tensors.keys() and a.metadata == b.metadata


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read(tmp_path: Path, ending: str) -> None:
    stored = drawn()
    write_stored(tmp_path / f"w{ending}", stored)
    assert same(stored, read_stored(tmp_path / f"w{ending}"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_content_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    stored = drawn()
    backwards = Stored(tensors=dict(reversed(stored.tensors.items())), metadata=dict(reversed(stored.metadata.items())))
    write_stored(tmp_path / f"one{ending}", stored)
    write_stored(tmp_path / f"another{ending}", backwards)
    assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"another{ending}").read_bytes()


def test_a_round_through_all_formats_gives_the_same_bytes(tmp_path: Path) -> None:
    """.pt → .safetensors → .npz → .pt and on: each format's second file is its first, byte by byte."""
    write_stored(tmp_path / "1.pt", drawn())
    path = tmp_path / "1.pt"
    for name in ("1.safetensors", "1.npz", "2.pt", "2.npz", "2.safetensors", "3.pt"):
        write_stored(tmp_path / name, read_stored(path))
        path = tmp_path / name
    for ending in ENDINGS:
        assert (tmp_path / f"1{ending}").read_bytes() == (tmp_path / f"2{ending}").read_bytes()
    assert (tmp_path / "1.pt").read_bytes() == (tmp_path / "3.pt").read_bytes()


def test_the_other_ending_of_torch(tmp_path: Path) -> None:
    """The published code writes `checkpoint.pth`."""
    stored = drawn()
    write_stored(tmp_path / "checkpoint.pth", stored)
    write_stored(tmp_path / "checkpoint.pt", stored)
    assert same(read_stored(tmp_path / "checkpoint.pth"), stored)
    assert (tmp_path / "checkpoint.pth").read_bytes() == (tmp_path / "checkpoint.pt").read_bytes()


def test_bfloat16_goes_where_there_is_such_a_type(tmp_path: Path) -> None:
    stored = Stored(tensors={"w": torch.ones(2, dtype=torch.bfloat16)})
    for ending in (".safetensors", ".pt"):
        write_stored(tmp_path / f"w{ending}", stored)
        assert read_stored(tmp_path / f"w{ending}").tensors["w"].dtype == torch.bfloat16
    with pytest.raises(ConfigError, match=r"'w' is bfloat16.*safetensors"):
        write_stored(tmp_path / "w.npz", stored)


def test_files_of_others_have_no_metadata(tmp_path: Path) -> None:
    tensors = {"w": torch.ones(2)}
    save_file(tensors, tmp_path / "w.safetensors")
    np.savez(tmp_path / "w.npz", w=np.ones(2, dtype=np.float32))
    torch.save(tensors, tmp_path / "w.pt")
    for ending in ENDINGS:
        assert same(read_stored(tmp_path / f"w{ending}"), Stored(tensors=tensors))


@pytest.mark.parametrize("nest", ["model", "state_dict", "model_state_dict"])
def test_nested_state_dicts(tmp_path: Path, nest: str) -> None:
    torch.save({nest: {"w": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pt")
    assert list(read_stored(tmp_path / "w.pt").tensors) == ["w"]


def test_arrays_of_the_other_byte_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.array([1.5, -2.0], dtype=">f4"))
    assert read_stored(tmp_path / "w.npz").tensors["w"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_cut_off_names_the_tensor(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"
    write_stored(path, drawn())
    data = path.read_bytes()
    spot = data.find(torch.Tensor(read_stored(path).tensors["i.big"]).numpy().tobytes())
    assert spot > 0
    path.write_bytes(data[: spot + 1000])
    with pytest.raises(DataError, match=r"cut off inside 'i\.big'; copy"):
        read_stored(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_flipped_bit_names_the_tensor(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"
    write_stored(path, drawn())
    data = bytearray(path.read_bytes())
    spot = bytes(data).find(read_stored(path).tensors["i.big"].numpy().tobytes())
    data[spot + 400] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"'i\.big'"):
        read_stored(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_length_of_a_cut_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"w{ending}"
    write_stored(path, Stored(tensors={"a": torch.ones(8), "b": torch.ones(3, 3)}))
    data = path.read_bytes()
    for length in range(0, len(data), 13):
        path.write_bytes(data[:length])
        with pytest.raises(DataError):
            read_stored(path)


class Bomb:
    """What a hostile file would run when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("ran", "w"))


def test_pickles_are_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(2), "head.bias": Bomb()}, "w.pt")
    with pytest.raises(DataError, match=r"'head\.bias' is a pickle.*state dict"):
        read_stored("w.pt")
    Path("bare.pt").write_bytes(pickle.dumps({"w": Bomb()}))
    with pytest.raises(DataError, match="bare pickle"):
        read_stored("bare.pt")
    np.savez("w.npz", fine=np.ones(2), evil=np.array([Bomb()], dtype=object))
    with pytest.raises(DataError, match="'evil' holds Python objects, a pickle"):
        read_stored("w.npz")
    Path("bare.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"not an \.npz file"):
        read_stored("bare.npz")
    assert not Path("ran").exists()


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    with pytest.raises(DataError, match="holds a list"):
        read_stored(tmp_path / "list.pt")
    torch.save({"w": torch.ones(2), "epoch": 3}, tmp_path / "mixed.pt")
    with pytest.raises(DataError, match="'epoch' is a int"):
        read_stored(tmp_path / "mixed.pt")
    np.savez(tmp_path / "text.npz", w=np.array(["a"]))
    with pytest.raises(DataError, match="'w' has the type"):
        read_stored(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.ones(2))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(DataError, match="one array without a name"):
        read_stored(tmp_path / "one.npz")


def test_damaged_metadata_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]", "{}", '{"sha256": 1}'):
        save_file({"w": torch.ones(2)}, tmp_path / "w.safetensors", {"sparseflow": text})
        with pytest.raises(DataError, match="JSON beside the tensors"):
            read_stored(tmp_path / "w.safetensors")


def test_files_and_endings_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file of weights"):
        read_stored(tmp_path / "none.pt")
    with pytest.raises(ConfigError, match=r"\.pkl.*safetensors"):
        read_stored(tmp_path / "w.pkl")
    with pytest.raises(ConfigError, match=r"\.bin"):
        write_stored(tmp_path / "w.bin", drawn())
    with pytest.raises(ConfigError, match="not JSON"):
        write_stored(tmp_path / "w.npz", Stored(tensors={}, metadata={"x": object()}))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_stored(tmp_path / "file" / "w.npz", drawn())
