"""VideoViT, a transformer for clips: its sizes, its network and its weights."""

from sparseflow.nn.models.video_vit.args import VideoViTArgs
from sparseflow.nn.models.video_vit.model import VideoViT
from sparseflow.nn.models.video_vit.weights import PretrainedReport, load_pretrained, load_video, save_video

__all__ = ["PretrainedReport", "VideoViT", "VideoViTArgs", "load_pretrained", "load_video", "save_video"]
