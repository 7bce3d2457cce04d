"""Images and time series: those that ship with sparseflow, and files that the user names."""

from sparseflow.data.cifar10 import cifar10, cifar10_subset
from sparseflow.data.csv_series import Series, csv_series
from sparseflow.data.ett import ETT, ett, ett_ends
from sparseflow.data.fashion_mnist import fashion_mnist
from sparseflow.data.forecast import ForecastSplits, Scaler, Windows, ends_by_share, split_series
from sparseflow.data.frames import Frames, frames_lazy
from sparseflow.data.images import ImageSet
from sparseflow.data.npz_xy import Pairs, npz_xy
from sparseflow.data.splits import Sealed, Splits, cifar10_splits, open_splits, split_train, subset_splits
from sparseflow.data.transforms import erase, rotate

__all__ = [
    "ETT",
    "ForecastSplits",
    "Frames",
    "ImageSet",
    "Pairs",
    "Scaler",
    "Sealed",
    "Series",
    "Splits",
    "Windows",
    "cifar10",
    "cifar10_splits",
    "cifar10_subset",
    "csv_series",
    "ends_by_share",
    "erase",
    "ett",
    "ett_ends",
    "fashion_mnist",
    "frames_lazy",
    "npz_xy",
    "open_splits",
    "rotate",
    "split_series",
    "split_train",
    "subset_splits",
]
