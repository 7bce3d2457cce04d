import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import Constraint, Failure, Integer, Score, Space, Trial
from sparseflow.search.proposer import Learner, Proposer

LINE = Space(
    parameters=(Integer(name="x", low=0, high=9),),
    constraints=(Constraint(holds=lambda p: p["x"] != 5, reason="five is odd"),),
)


class Scripted(Learner):
    """Suggests from a list, the last for ever, and notes what it is taught."""

    def __init__(self, script, **options):
        super().__init__(LINE, **options)
        self.script, self.learned, self.observed = list(script), [], []

    def _suggest(self):
        x = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return f"ticket {x}", {"x": x}

    def _learn(self, ticket, params, outcome):
        self.learned.append((ticket, params["x"], outcome.value if isinstance(outcome, Score) else outcome.reason))

    def _observe(self, params, outcome):
        self.observed.append(params["x"])


def ask_and_tell(searcher, value=float):
    (trial,) = searcher.ask(1)
    searcher.tell([(trial, Score(value=value(trial.params["x"])))])
    return trial.params["x"]


def test_a_repeated_suggestion_costs_no_trial_and_is_learned():
    searcher = Scripted([3, 3, 3, 4])
    assert [ask_and_tell(searcher), ask_and_tell(searcher)] == [3, 4]
    assert searcher.learned == [("ticket 3", 3, 3.0)] * 3 + [("ticket 4", 4, 4.0)]


def test_a_repeated_suggestion_waits_for_an_outcome_under_way():
    searcher = Scripted([3, 3, 4])
    first, second = searcher.ask(2)
    assert (first.params["x"], second.params["x"]) == (3, 4)
    searcher.tell([(first, Score(value=1.0))])
    assert searcher.learned == [("ticket 3", 3, 1.0)] * 2


def test_a_broken_constraint_is_a_failure():
    searcher = Scripted([5, 6])
    assert ask_and_tell(searcher) == 6
    assert searcher.learned[0] == ("ticket 5", 5, "five is odd")


def test_the_start_comes_first_and_is_observed():
    searcher = Scripted([1, 2], start={"x": 7})
    assert [ask_and_tell(searcher), ask_and_tell(searcher)] == [7, 1]
    assert searcher.observed == [7]


def test_a_start_that_was_told_is_not_asked_again():
    searcher = Scripted([1, 2], start={"x": 7})
    searcher.tell([(Trial(id=-1, params={"x": 7}), Score(value=0.0))])
    assert ask_and_tell(searcher) == 1


def test_a_start_outside_the_space_is_refused():
    with pytest.raises(ConfigError, match="five is odd"):
        Scripted([1], start={"x": 5})


def test_a_stubborn_model_gives_way_to_the_neighbours_of_the_best():
    searcher = Scripted([3], tries=2)
    told = [ask_and_tell(searcher, lambda x: abs(x - 8)) for _ in range(9)]
    assert told[0] == 3
    assert told[1] in (2, 4)
    assert sorted(told) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert searcher.ask(1) == []


def test_outcomes_are_learned_in_the_order_of_the_trials():
    searcher = Scripted([1, 2, 3])
    trials = searcher.ask(3)
    searcher.tell([(t, Failure(reason="no")) for t in reversed(trials)])
    assert [ticket for ticket, _, _ in searcher.learned] == ["ticket 1", "ticket 2", "ticket 3"]


def test_what_lies_outside_the_space_teaches_nothing():
    searcher = Scripted([1])
    searcher.tell([(Trial(id=-1, params={"x": 5}), Score(value=-9.0)), (Trial(id=-1, params={}), Score(value=-9.0))])
    assert (searcher.learned, searcher.observed) == ([], [])


def test_a_proposer_must_say_what_it_proposes():
    with pytest.raises(TypeError, match="_propose"):
        Proposer(LINE)
