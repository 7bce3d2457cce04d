"""VideoViT, a transformer for clips: its sizes, its network and its weights."""

from sparseflow.nn.models.video_vit.args import VideoViTArgs
from sparseflow.nn.models.video_vit.model import VideoViT

__all__ = ["VideoViT", "VideoViTArgs"]
