import pytest

from sparseflow.errors import DataError
from sparseflow.recipes.codesign.zigzag import read_zigzag

TEXT = """
- id: 0
  name: stem
  operator_type: Conv
  equation: O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]
  dimension_relations: [ix=2*ox+1*fx, iy=2*oy+1*fy]
  loop_dims: [B, K, C, OY, OX, FY, FX]
  loop_sizes: [1, 64, 3, 112, 112, 7, 7]
- id: 1
  operator_type: Add
  equation: O[b][g][oy][ox]=W[b][g][oy][ox]+I[b][g][oy][ox]
  loop_dims: [B, G, OY, OX]
  loop_sizes: [1, 64, 56, 56]
- id: 2
  operator_type: Conv
  loop_dims: [B, K, C, OY, OX, FY, FX]
  loop_sizes: [1, 1000, 512, 1, 1, 1, 1]
- id: 3
  operator_type: Gemm
  loop_dims: [D, C, K]
  loop_sizes: [196, 768, 3072]
"""


def test_layers_have_the_loops_operations(tmp_path):
    file = tmp_path / "w.yaml"
    file.write_text(TEXT)
    stem, add, head, product = read_zigzag(file, precision="int8", batch=2)
    assert stem.flops == 2 * 2 * 64 * 3 * 112 * 112 * 49
    assert stem.attr("in_tokens") == 224 * 224
    assert add.flops == 2 * 64 * 56 * 56
    assert head.flops == 2 * 2 * 1000 * 512
    assert product.flops == 2 * 2 * 196 * 768 * 3072
    assert {x.precision for x in (stem, add, head, product)} == {"int8"}


@pytest.mark.parametrize("text", ["", "a: 1", "- id: 4\n  operator_type: Conv", "- [1]", "- id: 4\n  loop_dims: [B]"])
def test_what_is_none_is_refused(tmp_path, text):
    file = tmp_path / "w.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=r"w\.yaml"):
        read_zigzag(file)
