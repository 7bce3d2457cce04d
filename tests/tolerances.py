"""The one table of tolerances: relative error by (operator, dtype), each with its reason; the same in CI."""

import torch

__all__ = ["RELATIVE", "relative"]

RELATIVE: dict[tuple[str, torch.dtype], tuple[float, str]] = {
    ("conv2d_spike", torch.float32): (
        1e-5,
        "float32 sums of up to 7*7*100 terms in another order: about sqrt(n) roundings of 6e-8, tenfold",
    ),
    ("conv2d_spike", torch.float64): (1e-12, "the same sums in float64, run by torch on both sides"),
    ("conv2d_spike_gradient", torch.float32): (
        1e-4,
        "gradients sum over all pixels too; still 10x under the 1e-3 asked",
    ),
    ("linear_spike", torch.float32): (1e-5, "as conv2d_spike, with one pixel"),
    ("conv2d_block", torch.float32): (1e-5, "as conv2d_spike; on GPUs products of three tf32 parts, about 22 bits"),
    ("conv2d_block", torch.float16): (1e-3, "a float32 sum rounded once to 11 bits"),
    ("spike_matmul", torch.float32): (1e-5, "as conv2d_block"),
    ("spike_matmul", torch.float16): (1e-3, "a float32 sum rounded once to 11 bits"),
    ("spike_layer", torch.float32): (1e-5, "as conv2d_spike; weights of 22 bits, or on grids where sums are exact"),
    ("int8_net", torch.float32): (1e-6, "a mean of real logits, summed in float64 here and in float32 by torch"),
    ("pt2e", torch.float32): (1e-6, "float32 sums of products that int8_net has whole; no code at a half in the tests"),
    ("lif", torch.float32): (1e-6, "the same operations in the same order as the reference; T=16 steps may fuse one"),
    ("lif", torch.float64): (0.0, "the reference itself"),
    ("triseg_dp", torch.float64): (1e-13, "differences of sums over 256 codes, 1e-16 each, of the largest sum"),
    ("triseg_attention", torch.float64): (
        1e-12,
        "float64 on whole numbers, a few hundred roundings of 1e-16",
    ),
    ("triseg_reward", torch.float64): (1e-5, "what is asked; 100 times the attention's, and found below 1e-7"),
    ("selective_scan", torch.float32): (1e-5, "sums over the memory of a state, a few hundred roundings of 6e-8"),
    ("cmamba", torch.float32): (
        1e-5,
        "what is asked; sums of up to 1536 terms through several layers, found below 4e-6",
    ),
    ("video_vit", torch.float32): (
        1e-5,
        "what is asked; sums of up to 3072 terms through a few blocks in another order, found below 2e-6",
    ),
    ("selective_scan", torch.float64): (1e-12, "the same sums in float64"),
    ("selective_scan_gradient", torch.float32): (1e-4, "sums over sequences and steps too; found below 1e-5"),
    ("selective_scan_gradient", torch.float64): (1e-11, "the same sums in float64"),
    ("lif_gradient", torch.float32): (1e-5, "T=16 products of factors near 1, each rounded at 6e-8"),
}


def relative(op: str, dtype: torch.dtype = torch.float32) -> float:
    """Return the allowed error relative to the largest reference value."""
    return RELATIVE[op, dtype][0]


def assert_near(got: torch.Tensor, want: torch.Tensor, op: str) -> None:
    """Fail unless the largest difference is within the table's share of the largest reference value."""
    assert got.shape == want.shape
    if want.numel():
        allowed = relative(op, got.dtype) * max(1.0, float(want.abs().max()))
        difference = float((got.double() - want.double()).abs().max())
        assert difference <= allowed, f"{op}: differs by {difference:.3g}, allowed {allowed:.3g}"
