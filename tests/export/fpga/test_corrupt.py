"""Every spoilt pack is refused by the name of what is spoilt."""

import re
import shutil

import pytest

from sparseflow.errors import DataError
from sparseflow.export.fpga.corrupt import CORRUPTIONS, spoil
from sparseflow.export.fpga.pack import read_pack, write_pack
from tests.export.fpga.networks import small


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_pack(folder, *small())
    read_pack(folder)
    return folder


def test_there_are_more_than_twenty():
    assert len(CORRUPTIONS) > 20


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_is_refused_by_name(name, whole, tmp_path):
    folder = tmp_path / "pack"
    shutil.copytree(whole, folder)
    with pytest.raises(DataError, match=re.escape(spoil(folder, name))):
        read_pack(folder)
