"""Settings of a search for codes, under the names of the earlier project's flags where it had them."""

from dataclasses import asdict, dataclass, field
from typing import Any

from sparseflow.compress.approximate import MASKS, RewardConfig, TmaxRule
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import MODES
from sparseflow.recipes.triseg.methods import method_named

__all__ = ["SearchConfig"]

_NOT_THE_PROBLEM = ("out", "data", "device", "records", "result_file", "resume", "eval_every")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """A search for the codes of a network.

    Args:
        model: name of the zoo, `file.py:function`, or the path of a checkpoint.
        out: folder of the checkpoints, of the results and of what resumes a search.
        data: CIFAR-10, as `data.cifar10` takes it; None for the images that ship with sparseflow.
        method: searcher, one of `METHODS`.
        episodes: configurations scored; the earlier project's documented run had 10,000.
        batch_size: images that a score is taken on, the same for all; at most those for calibration.
        calib_batches: batches of 32 calibration images for the histograms.
        layers: names of the sites that are approximated; None for all.
        attention_layers: names of those whose maps are compared; None for the earlier project's.
        reward: temperature and weights of the reward.
        tmax: how tmax is chosen.
        tmax_shares: smaller shares of codes up to tmax, in percent, that are tried in this order where the optimum of
            the histograms loses more than `max_acc_drop` on the images for selection; the first that does not, or the
            last, is searched. None keeps `tmax`.
        tmax_reach: how far the search may move it; 0 leaves it there.
        masks: ranges of the codes, "relative" or "seed"; None for what the method searches in.
        overflow: "pass" leaves codes beyond tmax, "clip" gives them v2, "saturate" tmax.
        lr: learning rate of PPO; None for its default.
        update_timestep: layers after which the original PPO learns.
        top: finalists whose accuracy is measured.
        halving: so many times more are scored again on `halving_images` images before.
        halving_images: images of that score, other than the search's.
        max_acc_drop: allowed loss of accuracy, in points.
        eval_every: evaluations between measurements of the best so far on the images for selection; None for none.
        result_file: name of the result, in `tri_ppo_int_codes` below `out`.
        records: URL or file of the records that a search resumes from; None for one beside the run.
        resume: take scores from the records of an earlier start of the same search.
        backend: integer arithmetic of the network, for the result.
        device: "auto", "cpu" or "cuda".
        seed: seed of the searcher.
        split_seed: seed of the division of the images.

    Raises:
        ConfigError: a value out of range.
    """

    model: str = "vgg16"
    out: str = "outputs"
    data: str | None = None
    method: str = "default"
    episodes: int = 600
    batch_size: int = 64
    calib_batches: int = 16
    layers: tuple[str, ...] | None = None
    attention_layers: tuple[str, ...] | None = None
    reward: RewardConfig = field(default_factory=RewardConfig)
    tmax: TmaxRule = field(default_factory=TmaxRule)
    tmax_shares: tuple[float, ...] = ()
    tmax_reach: int = 0
    masks: str | None = None
    overflow: str = "pass"
    lr: float | None = None
    update_timestep: int = 50
    top: int = 30
    halving: int = 4
    halving_images: int = 512
    max_acc_drop: float = 2.0
    eval_every: int | None = None
    result_file: str = "result.json"
    records: str | None = None
    resume: bool = True
    backend: str = "fbgemm"
    device: str = "auto"
    seed: int = 0
    split_seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        method_named(self.method)
        for name in ("episodes", "batch_size", "calib_batches", "top", "halving", "halving_images", "update_timestep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.eval_every is not None and self.eval_every < 1:
            raise ConfigError(f"eval_every is {self.eval_every}; expected at least 1, or None")
        if any(not 0 < share <= 100 for share in self.tmax_shares):
            raise ConfigError(f"tmax_shares is {self.tmax_shares}; expected percents above 0, at most 100")
        if self.tmax_reach < 0:
            raise ConfigError(f"tmax_reach is {self.tmax_reach}; expected 0 or more codes")
        for name, allowed in (("masks", (None, *MASKS)), ("overflow", MODES), ("device", ("auto", "cpu", "cuda"))):
            if getattr(self, name) not in allowed:
                said = ", ".join(str(a) for a in allowed if a is not None)
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected one of {said}")
        if not self.max_acc_drop >= 0:
            raise ConfigError(f"max_acc_drop is {self.max_acc_drop}; expected points, 0 or more")
        if not self.result_file or "/" in self.result_file or not self.result_file.endswith(".json"):
            raise ConfigError(f"result_file is {self.result_file!r}; expected the name of a .json file without folder")

    @property
    def masks_name(self) -> str:
        """Name of the ranges that are searched."""
        return self.masks or method_named(self.method).masks

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def problem(self) -> dict[str, Any]:
        """Return what decides the scores and their order, as plain data: all but places and the machine."""
        return {name: value for name, value in self.to_dict().items() if name not in _NOT_THE_PROBLEM}
