"""Design a wafer for a network of yours: which chiplets, who runs what, and where they lie.

python examples/design_wafer.py

Traces a small vision transformer, designs a wafer for it with bounds of the chips as costs, and prints the dies.
"""

import tempfile

import torch

import sparseflow
from sparseflow.nn.models.video_vit import VideoViT


def main() -> dict[str, float]:
    """Design, print, and return the figures."""
    torch.manual_seed(0)
    model = VideoViT(64, 4, 16, 128, 4, 4, 4.0, 8).eval()
    with tempfile.TemporaryDirectory() as folder:
        body = sparseflow.codesign(
            model, torch.zeros(1, 4, 3, 64, 64), out=folder, proxy="roofline", types=("big_core", "small_core"),
            slots=4, fixed=("big_core", "big_core"), batch=256, segment_size=1, outer_epochs=2,
        )  # fmt: skip
    for die in body["design"]["dies"]:
        segments = sum(s["slot"] == die["slot"] for s in body["design"]["segments"])
        print(f"slot {die['slot']}: {die['type']} at ({die['x_mm']:.0f}, {die['y_mm']:.0f}) mm, {segments} segments")
    figures: dict[str, float] = body["figures"]
    print(f"{figures['latency_ms']:.3f} ms and {figures['energy_mj']:.1f} mJ a batch")
    print(f"{1 / body['edp_ratio']:.2f} times less energy-delay than on two big cores in turn")
    return figures


if __name__ == "__main__":
    main()
