"""Drop three quarters of the tokens of clips, and see whether what moves is among those that stay.

python examples/video_tokens.py

Draws digits that move among standing ones, gives them to untrained video transformers that keep a quarter of their
tokens by several scores, and counts how many of the patches in which something moves were kept.
"""

import torch
from torch import Tensor

from sparseflow.data import MovingDigits, mnist
from sparseflow.nn.models.video_vit import VideoViT

CLIPS = 32
KEEP = 0.25
SCORES = {
    "motion": {"score": "motion", "entropy_mode": "sliding", "region_weight": 0.0},
    "entropy": {"score": "entropy", "entropy_mode": "sliding"},
    "uniform": {"score": "uniform"},
    "random": {"score": "random"},
}


def moving_patches(clips: Tensor, patch: int) -> Tensor:
    """Return which patches of clips `[B, T, 1, S, S]` differ from the frame before or after, `[B, T·N]`."""
    steps = (clips[:, 1:] != clips[:, :-1]).any(2)
    still = torch.zeros_like(steps[:, :1])
    changed = torch.cat([still, steps], 1) | torch.cat([steps, still], 1)
    return changed.unflatten(2, (-1, patch)).unflatten(4, (-1, patch)).any(5).any(3).flatten(1)


def main() -> None:
    """Run the example."""
    torch.manual_seed(0)
    digits = MovingDigits(images=mnist(split="test"))
    clips, _ = digits.draw(CLIPS, torch.Generator().manual_seed(0))
    moving = moving_patches(clips, 8)
    scaled = digits.images.normalize(clips.flatten(0, 1)).view(clips.shape)
    print(f"{CLIPS} clips of {len(digits.classes)} made motions; {moving.float().mean():.1%} of their patches move")
    for name, cfg in SCORES.items():
        model = VideoViT(
            64, 8, len(digits.classes), 128, 2, 4, 4.0, 8, in_chans=1, use_ast_prune=True, ast_cfg={"keep": KEEP, **cfg}
        ).eval()
        with torch.no_grad():
            _, info = model(scaled, return_intermediate=True)
        kept = torch.zeros_like(moving).scatter(1, info["kept"], True)
        share, of_moving = kept.float().mean(), kept[moving].float().mean()
        print(f"  {name:8} keeps {share:.0%} of all patches and {of_moving:.1%} of those")


if __name__ == "__main__":
    main()
