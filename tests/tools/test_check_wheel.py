import zipfile

import pytest

from tools import check_wheel

FILES = ("__init__.py", "assets/net.safetensors", "ops/lif/kernel.cu", "py.typed")


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    for name in (*FILES, "ops/_native.so", "__pycache__/x.pyc"):
        path = root / "src/sparseflow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name == "py.typed" else "x")
    return root


def _wheel(path, names, text="x"):
    with zipfile.ZipFile(path, "w") as opened:
        for name in names:
            opened.writestr(f"sparseflow/{name}", "" if name == "py.typed" else text)
    return path


def test_a_full_wheel_has_no_gap(checkout, tmp_path):
    assert check_wheel.gaps(_wheel(tmp_path / "w.whl", FILES), checkout) == []


def test_a_missing_and_an_empty_file_are_named(checkout, tmp_path):
    found = check_wheel.gaps(_wheel(tmp_path / "w.whl", FILES[:2], text=""), checkout)
    assert found == [
        "the wheel has no sparseflow/ops/lif/kernel.cu",
        "the wheel has no sparseflow/py.typed",
        "sparseflow/assets/net.safetensors is empty in the wheel",
    ]


def test_a_gap_fails_the_run(checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check_wheel, "build", lambda root, folder: _wheel(tmp_path / "w.whl", FILES[:1]))
    assert check_wheel.main(["--root", str(checkout)]) == 1
    assert capsys.readouterr().out.endswith("3 gaps\n")


def test_what_ships_is_expected():
    names = check_wheel.expected(check_wheel.ROOT)
    for part in ("assets/checkpoints/", "assets/cifar10_subset/sheets/", "hardware/targets/h200.yaml", "page.html.j2"):
        assert any(part in name for name in names), part
    assert not any(name.endswith((".pyc", ".so")) for name in names)
