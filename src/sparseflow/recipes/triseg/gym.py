"""The search for a network's codes under a name of Gymnasium's, `gymnasium.make("sparseflow/TriSegment-v0")`."""

from typing import TYPE_CHECKING, Any

from sparseflow.errors import UnsupportedError
from sparseflow.recipes.triseg.problem import pose
from sparseflow.recipes.triseg.search_config import SearchConfig

if TYPE_CHECKING:
    from sparseflow.compress.approximate.gym import CodesEnv

__all__ = ["ENV_ID", "make_env", "register"]

ENV_ID = "sparseflow/TriSegment-v0"
_ABSENT = "the environment needs package gymnasium; pip install 'sparseflow[gym]'"


def register() -> str:
    """Make the environment known to `gymnasium.make`, and return its name; a second call changes nothing.

    Raises:
        UnsupportedError: package gymnasium is not installed.
    """
    try:
        import gymnasium
    except ImportError as e:
        raise UnsupportedError(_ABSENT) from e
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(id=ENV_ID, entry_point=f"{__name__}:make_env")
    return ENV_ID


def make_env(**settings: Any) -> "CodesEnv":
    """Return the environment of a search: `batch_size` calibration images score each episode.

    Args:
        settings: fields of `SearchConfig`, as model, data, out, batch_size, tmax_reach, overflow.

    Raises:
        ConfigError: no such setting, network or layers.
        DataError: no checkpoint, or images that cannot be read.
        UnsupportedError: package gymnasium is not installed.
    """
    try:
        from sparseflow.compress.approximate.gym import CodesEnv
    except ImportError as e:
        raise UnsupportedError(_ABSENT) from e
    config = SearchConfig(**settings)
    problem = pose(config)
    images = problem.splits.calib.take(min(config.batch_size, len(problem.splits.calib)))
    return CodesEnv(problem.space, problem.states, problem.evaluator(images).score)
