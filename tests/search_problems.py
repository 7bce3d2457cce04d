"""Problems with known answers, for the tests of searchers."""

from sparseflow.search import Between, Bound, Integer, Score, Space

WIDE = Space(parameters=tuple(Integer(name=n, low=0, high=31) for n in "abcd"))


def smooth(params):
    """Bowl over `WIDE`; 0 at one place."""
    return sum((params[n] - t) ** 2 for n, t in zip("abcd", (3, 17, 29, 8), strict=True))


def ordered_codes(layers, tmax=35):
    """Thresholds and levels t1 < v1 < t2 < v2 <= tmax of some layers, with the ranges of the tri-segment search."""
    parameters = []
    for layer in layers:
        t1, t2 = f"{layer}.t1", f"{layer}.t2"
        parameters += [
            Integer(name=t1, low=2, high=min(10, max(2, tmax - 8))),
            Between(name=t2, low=6, high=max(6, tmax - 4), above=Bound(name=t1, offset=4)),
            Between(
                name=f"{layer}.v1",
                low=3,
                high=tmax - 5,
                above=Bound(name=t1, offset=1),
                below=Bound(name=t2, offset=-1),
            ),
            Between(name=f"{layer}.v2", low=7, high=tmax, above=Bound(name=t2, offset=1)),
        ]
    return Space(parameters=tuple(parameters))


def far_from(target):
    """Return a function: mean distance of parameters from a target, in values."""
    return lambda params: sum(abs(params[n] - v) for n, v in target.items()) / len(target)


def best_after(searcher, evaluate, trials, batch=1):
    """Return the best value after some trials, and the parameters that gave it."""
    best, found, tried = float("inf"), None, 0
    while tried < trials and (asked := searcher.ask(min(batch, trials - tried))):
        values = [evaluate(t.params) for t in asked]
        searcher.tell([(t, Score(value=v)) for t, v in zip(asked, values, strict=True)])
        tried += len(asked)
        for trial, value in zip(asked, values, strict=True):
            if value < best:
                best, found = value, dict(trial.params)
    return best, found
