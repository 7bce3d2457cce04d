"""The header of sizes and places: valid C99, and it says where arrays really lie."""

import json
import re
import shutil
import subprocess

import pytest

from sparseflow.errors import ConfigError
from sparseflow.export.fpga.header import params_header, sizes
from sparseflow.export.fpga.pack import MANIFEST, offsets, write_pack
from tests.export.fpga.networks import small


def test_places_are_those_of_the_manifest(tmp_path):
    spec, arrays, golden = small()
    write_pack(tmp_path, spec, arrays, golden)
    listed = json.loads((tmp_path / MANIFEST).read_text())["arrays"]
    assert offsets(arrays) == {e["name"]: e["offset"] for e in listed if e["file"] == "weights.bin"}


def test_sizes():
    spec, arrays, _ = small()
    assert sizes(spec, arrays) == {
        "V": 5, "L": 32, "P": 8, "S": 4, "K": 8, "D": 16, "E": 32, "N": 4, "R": 1, "H": 2, "F": 10, "BLOCKS": 2,
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_it_is_c99(tmp_path):
    spec, arrays, _ = small()
    text = params_header(spec, arrays)
    (tmp_path / "cmamba_params.h").write_text(text)
    (tmp_path / "use.c").write_text('#include "cmamba_params.h"\nint main(void) { return CMAMBA_BLOCK[1].t < 0; }\n')
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wno-unused-const-variable", "-Werror", "-pedantic"]
    subprocess.run(["cc", *flags, "use.c", "-o", "use"], cwd=tmp_path, check=True, capture_output=True)
    assert f"{{{offsets(arrays)['head.linear.weight']}u, " in text
    assert re.search(r"#define CMAMBA_BLOCKS 2\n", text)


def test_a_missing_array_is_named():
    spec, arrays, _ = small()
    less = {name: values for name, values in arrays.items() if name != "encoder.layers.1.mixer.scan.delta"}
    with pytest.raises(ConfigError, match=r"layers\.1\.mixer\.scan\.delta"):
        params_header(spec, less)
    with pytest.raises(ConfigError, match=r"head\.linear\.bias"):
        sizes(spec, {name: values for name, values in arrays.items() if name != "head.linear.bias"})
