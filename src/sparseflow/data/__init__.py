"""Images, clips, time series and sparse matrices: those that ship with sparseflow, and files that the user names."""

from sparseflow.data.cifar10 import cifar10, cifar10_subset
from sparseflow.data.clip_covers import Cover, covers, frames_of
from sparseflow.data.csv_series import Series, csv_series
from sparseflow.data.ett import ETT, ett, ett_ends
from sparseflow.data.fashion_mnist import fashion_mnist
from sparseflow.data.forecast import ForecastSplits, Scaler, Windows, ends_by_share, split_series
from sparseflow.data.frames import Frames, frames_lazy
from sparseflow.data.images import ImageSet
from sparseflow.data.jhmdb import JointTracks, jhmdb
from sparseflow.data.matrix_files import read_matrix
from sparseflow.data.mnist import mnist
from sparseflow.data.moving_digits import MovingDigits
from sparseflow.data.npz_xy import Pairs, npz_xy
from sparseflow.data.splits import Sealed, Splits, cifar10_splits, open_splits, split_train, subset_splits
from sparseflow.data.transforms import erase, rotate
from sparseflow.data.ucf101 import Video, VideoList, ucf101
from sparseflow.data.ucf101_sample import write_sample
from sparseflow.data.video_clips import VideoClips

__all__ = [
    "ETT",
    "Cover",
    "ForecastSplits",
    "Frames",
    "ImageSet",
    "JointTracks",
    "MovingDigits",
    "Pairs",
    "Scaler",
    "Sealed",
    "Series",
    "Splits",
    "Video",
    "VideoClips",
    "VideoList",
    "Windows",
    "cifar10",
    "cifar10_splits",
    "cifar10_subset",
    "covers",
    "csv_series",
    "ends_by_share",
    "erase",
    "ett",
    "ett_ends",
    "fashion_mnist",
    "frames_lazy",
    "frames_of",
    "jhmdb",
    "mnist",
    "npz_xy",
    "open_splits",
    "read_matrix",
    "rotate",
    "split_series",
    "split_train",
    "subset_splits",
    "ucf101",
    "write_sample",
]
