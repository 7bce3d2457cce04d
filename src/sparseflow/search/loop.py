"""The one run loop: asks, evaluates, records and tells until the budget is spent."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tqdm import tqdm

from sparseflow.errors import BudgetError, ConfigError, MeasurementError
from sparseflow.ir._json import digest
from sparseflow.records import Key, Record, Store
from sparseflow.search.space import Params
from sparseflow.search.trial import Budget, Evaluate, EvaluateMany, Failure, Outcome, Result, Score, Searcher, Trial

__all__ = ["run"]

_BASELINE = -1
_FINALISTS = 3


def run(
    searcher: Searcher,
    evaluate: Evaluate,
    budget: Budget,
    *,
    store: Store | None = None,
    key: Key | None = None,
    name: str = "",
    unit: str = "s",
    baseline: Params | None = None,
    batch: int = 1,
    evaluate_many: EvaluateMany | None = None,
    remeasure: bool = True,
    progress: bool = True,
) -> Result:
    """Search until the budget is spent and return the best parameters found.

    With a store every outcome is written before the searcher learns of it. A
    run that was killed goes on when it is started again with the same seed
    and key: outcomes already in the store are taken from there, in the order
    in which the searcher asks, and count towards `budget.trials`.

    The baseline is evaluated first and is always a candidate. In the end the
    winner and the baseline are evaluated once more: a winner that was only
    lucky gives way to the next of three finalists, and at last to the baseline.

    Args:
        searcher: proposes trials.
        evaluate: returns a score, or the bare value to minimise, or raises;
            whatever it raises is a failure of that trial.
        budget: when to stop.
        store: where outcomes are kept and looked for.
        key: what is searched; its `decision` is replaced by a hash of each
            trial's parameters. Needed with a store.
        name: name for progress and records.
        unit: unit of the value, for the records.
        baseline: parameters of what is done without any search.
        batch: how many trials to ask for at a time.
        evaluate_many: evaluates the new trials of a batch in one call, where that
            is cheaper than one after the other; returns a score or value for
            each. If it raises, a warning says so and they are evaluated singly.
        remeasure: evaluate winner and baseline once more.
        progress: draw a progress bar where standard error is a terminal.

    Returns:
        The best parameters with their score. After Ctrl-C the best so far,
        with `interrupted` set.

    Raises:
        ConfigError: a store without a key, or a batch below 1.
        MeasurementError: `evaluate_many` returned another number of scores.
        BudgetError: the budget ran out before any trial had a score; names
            the first reasons.
    """
    if store is not None and key is None:
        raise ConfigError("a search with a store needs a key that says what is searched")
    if batch < 1:
        raise ConfigError(f"batch is {batch}; expected at least 1")
    desk = _Desk(evaluate, store, key, name, unit, evaluate_many)
    desk.remember()
    started = time.perf_counter()
    stopped_by = "interrupt"
    bar = tqdm(total=budget.trials, desc=name or "search", unit="trial", disable=None if progress else True)
    try:
        with bar:
            if baseline is not None:
                first = Trial(id=_BASELINE, params=baseline)
                searcher.tell([(first, desk.serve(first))])
            stopped_by = _loop(searcher, desk, budget, batch, started, bar)
        winner = _confirm(desk, baseline) if remeasure else desk.best
    except KeyboardInterrupt:
        stopped_by = "interrupt"
        winner = desk.best
    if winner is None and stopped_by != "interrupt":
        why = "; ".join(desk.reasons[:3]) or "the space holds nothing new to try"
        raise BudgetError(f"search {name!r} ended without any result after {len(desk.history)} trials: {why}")
    return Result(
        best=None if winner is None else dict(winner[0]),
        score=None if winner is None else winner[1],
        baseline=desk.latest(baseline),
        history=tuple(desk.history),
        interrupted=stopped_by == "interrupt",
        stopped_by=stopped_by,
        reused=desk.reused,
        elapsed_s=time.perf_counter() - started,
    )


@dataclass(slots=True)
class _Desk:
    """Gets outcomes, from the store or by evaluation, and keeps them."""

    evaluate: Evaluate
    store: Store | None
    key: Key | None
    name: str
    unit: str
    evaluate_many: EvaluateMany | None = None
    history: list[tuple[Trial, Outcome]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    reused: int = 0
    _known: dict[str, Outcome] = field(default_factory=dict)
    _latest: dict[str, Score] = field(default_factory=dict)
    _ready: dict[str, Outcome] = field(default_factory=dict)
    _first: tuple[Params, Score] | None = None

    def remember(self) -> None:
        """Load the first outcome of every decision from the store."""
        if self.store is None or self.key is None:
            return
        k = self.key
        found = self.store.records(layer=k.layer, target=k.target, protocol=k.protocol, source=k.source)
        for record in reversed(found):
            self._known.setdefault(record.key.decision, _outcome(record))

    def prepare(self, trials: Sequence[Trial]) -> None:
        """Evaluate what is not known of a batch in one call, if there is one for it."""
        params = {digest(dict(t.params)): dict(t.params) for t in trials}
        fresh = {d: p for d, p in params.items() if d not in self._known}
        if self.evaluate_many is None or not fresh:
            return
        try:
            given = self.evaluate_many(list(fresh.values()))
        except Exception as e:
            warnings.warn(
                f"a batch of {len(fresh)} trials is evaluated one by one: {type(e).__name__}: {e}", stacklevel=2
            )
            return
        if len(given) != len(fresh):
            raise MeasurementError(f"evaluate_many returned {len(given)} scores for {len(fresh)} trials")
        self._ready = {d: _taken(score) for d, score in zip(fresh, given, strict=True)}
        if self.store is not None and self.key is not None:
            # One transaction for all: a commit takes longer than many an evaluation.
            key = self.key
            self.store.extend(self._record(replace(key, decision=d), fresh[d], o) for d, o in self._ready.items())

    def serve(self, trial: Trial) -> Outcome:
        """Return the outcome of a trial and add both to the history."""
        decision = digest(dict(trial.params))
        outcome = self._known.get(decision)
        if outcome is None:
            outcome = self.again(trial.params)
            self._known[decision] = outcome
        else:
            self.reused += 1
            self._note(decision, outcome)
        self.history.append((trial, outcome))
        if isinstance(outcome, Score) and (self._first is None or outcome.value < self._first[1].value):
            self._first = trial.params, outcome
        return outcome

    @property
    def best(self) -> tuple[Params, Score] | None:
        """What has the best score so far, the first of equals."""
        return self._first

    def again(self, params: Params) -> Outcome:
        """Evaluate, write to the store, and return the outcome."""
        decision = digest(dict(params))
        if decision in self._ready:
            outcome = self._ready.pop(decision)
            self._note(decision, outcome)
            return outcome
        try:
            outcome = _taken(self.evaluate(dict(params)))
        except Exception as e:
            outcome = _failed(e)
        if self.store is not None and self.key is not None:
            self.store.append(self._record(replace(self.key, decision=decision), params, outcome))
        self._note(decision, outcome)
        return outcome

    def latest(self, params: Params | None) -> Score | None:
        """Return the last score of parameters, or None."""
        return None if params is None else self._latest.get(digest(dict(params)))

    def ranked(self) -> list[tuple[Params, Score]]:
        """Return what has a score, the best first, ties in the order of trials."""
        scored = [(t.params, o) for t, o in self.history if isinstance(o, Score)]
        return sorted(scored, key=lambda pair: pair[1].value)

    def _note(self, decision: str, outcome: Outcome) -> None:
        if isinstance(outcome, Score):
            self._latest[decision] = outcome
        else:
            self.reasons.append(outcome.reason)

    def _record(self, key: Key, params: Params, outcome: Outcome) -> Record:
        given: dict[str, Any] = {"key": key, "name": self.name, "unit": self.unit, "decision": dict(params)}
        if isinstance(outcome, Failure):
            return Record(**given, failure=outcome.reason)
        return Record(**given, value=outcome.value, stats=dict(outcome.metrics))


def _loop(searcher: Searcher, desk: _Desk, budget: Budget, batch: int, started: float, bar: "tqdm[Any]") -> str:
    tried = 0
    while budget.trials is None or tried < budget.trials:
        asked = searcher.ask(batch if budget.trials is None else min(batch, budget.trials - tried))
        if not asked:
            return "exhausted"
        desk.prepare(asked)
        done: list[tuple[Trial, Outcome]] = []
        for trial in asked:
            done.append((trial, desk.serve(trial)))
            bar.update()
            late = budget.seconds is not None and time.perf_counter() - started >= budget.seconds
            if late and desk.evaluate_many is None:
                break
        searcher.tell(done)
        tried += len(done)
        if (best := desk.best) is not None:
            bar.set_postfix_str(f"best {best[1].value:.4g} {desk.unit}", refresh=False)
        if late:
            break
    return "budget"


def _confirm(desk: _Desk, baseline: Params | None) -> tuple[Params, Score] | None:
    # A baseline that never had a score has nothing to be measured again.
    base = desk.again(baseline) if baseline is not None and desk.latest(baseline) is not None else None
    for place, (params, _) in enumerate(desk.ranked()):
        if params == baseline or place == _FINALISTS:
            break
        outcome = desk.again(params)
        if isinstance(outcome, Score) and not (isinstance(base, Score) and base.value <= outcome.value):
            return params, outcome
    return (baseline, base) if baseline is not None and isinstance(base, Score) else None


def _taken(given: Score | float) -> Outcome:
    try:
        return given if isinstance(given, Score) else Score(value=float(given))
    except Exception as e:
        return _failed(e)


def _failed(e: Exception) -> Failure:
    return Failure(reason=f"{type(e).__name__}: {e}")


def _outcome(record: Record) -> Outcome:
    if record.value is None:
        return Failure(reason=record.failure or "")
    return Score(value=record.value, metrics=record.stats)
