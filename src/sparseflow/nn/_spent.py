"""What a neuron holds in place of its potential after a forward that did not write it."""

from typing import Any, NoReturn

from sparseflow.errors import ConfigError

__all__ = ["SPENT", "refuse_spent"]


def refuse_spent(*_: Any, **__: Any) -> NoReturn:
    """Say that a state was asked for that nobody computed.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(
        "the neurons were not reset since the last forward, which starts at rest and keeps no potential: "
        "call sparseflow.nn.functional.reset_net(model), or SpikingJelly's functional.reset_net, between inputs, "
        "or optimize with keep_state=True to carry the state from call to call"
    )


class _Spent:
    """A potential that was never computed: any arithmetic with it raises; `reset()` of the neuron replaces it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Spent":
        return self

    def __reduce__(self) -> str:
        return "SPENT"

    def __repr__(self) -> str:
        return "<no potential: reset the network>"

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        refuse_spent()

    __float__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __neg__ = refuse_spent


SPENT = _Spent()
