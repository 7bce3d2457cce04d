import pytest

from sparseflow.report import Ahead, Losses
from sparseflow.report.forecast_plots import losses_plane, steps_plane, strip


def test_truth_and_forecast_go_on_from_the_last_reading_seen():
    drawn = strip(Ahead(name="a", past=(1.0, 5.0, 2.0), truth=(3.0, 3.0), forecast=(2.0, 4.0)))
    assert drawn.truth[0] == drawn.forecast[0] == drawn.past[-1] == (drawn.now, drawn.up.place(2.0))
    assert [x for x, _ in drawn.past] == [0.0, 0.25, 0.5]
    assert drawn.forecast[-1] == (1.0, drawn.up.place(4.0))
    assert drawn.error == pytest.approx(1.0)
    assert all(0 <= y <= 1 for path in (drawn.past, drawn.truth, drawn.forecast) for _, y in path)


def test_a_reading_that_never_changes_has_a_picture():
    drawn = strip(Ahead(name="a", past=(2.0,), truth=(2.0,), forecast=(2.0,)))
    assert drawn.forecast == ((0.0, 0.5), (1.0, 0.5))
    assert drawn.error == 0


def test_losses_have_two_lines_and_a_dot_each():
    courses = [Losses(name=n, train=(3.0, 2.0, 1.0), val=(2.0, 1.0, 1.5), best=1) for n in ("a", "b")]
    plane = losses_plane(courses)
    assert [line.name for line in plane.lines] == ["a, train", "a, val", "b, train", "b, val"]
    assert (plane.spots[0].x, plane.spots[0].y) == plane.lines[1].path[1]
    assert "kept epoch 2, 1.0000 on val" in plane.spots[0].tip
    assert losses_plane([]) is None
    assert len(losses_plane([Losses(name="a", train=(1.0,), val=(1.0,), best=0)]).lines) == 2


def test_errors_by_distance_begin_at_zero():
    plane = steps_plane([0.1, 0.2, 0.4])
    assert plane.up.low == 0
    assert [x for x, _ in plane.lines[0].path] == [plane.across.place(i) for i in (1, 2, 3)]
    assert steps_plane([0.1]) is None
