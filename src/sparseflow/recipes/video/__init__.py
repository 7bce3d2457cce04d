"""Video transformers: train them dense or pruned, score, slice and measure them."""

from sparseflow.recipes.video.checkpoint import Trained, load_trained, save_trained
from sparseflow.recipes.video.config import VideoConfig
from sparseflow.recipes.video.train import train_video

__all__ = ["Trained", "VideoConfig", "load_trained", "save_trained", "train_video"]
