import pytest

from sparseflow.report import Curve, Finding, SiteView
from sparseflow.report.plots import axis, curves_plane, findings_plane, histogram
from tests.report.triseg_run import counts


def site(codes=(7, 14, 21, 28, 35), last=127):
    return SiteView(name="s", counts=counts(0, last), codes=codes)


@pytest.mark.parametrize(
    "values", [[0.0, 97.0], [-3.2, -1.1], [5.0, 5.0], [0.0], [], [1e-9, 2e-9], [float("inf"), 1.0]]
)
def test_a_scale_holds_its_values_between_round_ticks(values):
    a = axis(values)
    assert a.low < a.high
    assert a.ticks[0][0] == 0
    assert a.ticks[-1][0] == 1
    assert all(0 <= a.place(v) <= 1 for v in values if v != float("inf"))
    for place, label in a.ticks:
        assert a.place(float(label)) == pytest.approx(place, abs=1e-4)


def test_each_code_is_a_bar_of_its_segment():
    h = histogram(site())
    segments = {round(b.x * 127) + 1: b.segment for b in h.bars}
    assert [segments[q] for q in (1, 7, 8, 21, 22, 35, 36, 120)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert max(b.height for b in h.bars) == 1
    assert "becomes v1 = 14" in next(b.tip for b in h.bars if b.tip.startswith("code 8:"))
    assert [s for s, _, _ in h.bands] == [0, 1, 2, 3]
    assert sum(w for _, _, w in h.bands) == pytest.approx(1, abs=1e-4)
    assert h.values[0] == (pytest.approx(13.5 / 127, abs=1e-5), 14)
    assert 0 < h.zeros < 1


def test_clipped_codes_have_no_escapes():
    h = histogram(site(), overflow="clip")
    assert {b.segment for b in h.bars} == {0, 1, 2}
    assert [s for s, _, _ in h.bands] == [0, 1, 2, 2]


def test_saturated_codes_have_a_fourth_value():
    h = histogram(site(), overflow="saturate")
    assert [s for s, _, _ in h.bands] == [0, 1, 2, 3]
    assert [v for _, v in h.values] == [14, 28, 35]
    assert "becomes tmax = 35" in next(b.tip for b in h.bars if b.tip.startswith("code 36:"))


def test_odd_sites_are_drawn():
    silent = SiteView(name="s", counts=(0,) * 256, codes=(0, 1, 1, 2, 3))
    assert histogram(silent).bars == ()
    wide = SiteView(name="s", counts=(1,) * 256, codes=(0, 0, 250, 250, 255))
    h = histogram(wide)
    assert len(h.bars) == 255
    assert h.bars[-1].x + h.bars[-1].width == pytest.approx(1, abs=1e-4)
    assert [v for _, v in h.values] == [250]


def test_curves_share_axes_and_are_stairs():
    ours = Curve(name="ours", points=((1, -3.0), (100, -1.0)), low=(-4.0, -2.0), high=(-2.0, -0.9), seeds=3, ours=True)
    plane = curves_plane([ours, Curve(name="random", points=((1, -900.0), (50, -2.0)))])
    line, other = plane.lines
    assert [x for x, _ in line.path] == [plane.across.place(n) for n in (1, 100, 100)]
    assert line.path[0][1] == line.path[1][1] < line.path[2][1]
    assert len(line.band) == 6
    assert "median of 3 seeds" in line.tip
    assert other.path[0][1] == 0
    assert plane.up.low > -900
    assert curves_plane([]) is None
    assert curves_plane([Curve(name="none", points=())]) is None


def test_the_teacher_is_a_level_beside_the_findings():
    found = [
        Finding(name="INT8", bits=8.0, accuracy=92.0, kind="teacher"),
        Finding(name="a", bits=2.1, accuracy=90.0),
        Finding(name="b", bits=2.3, accuracy=91.0, kind="chosen"),
    ]
    plane = findings_plane(found)
    assert [s.kind for s in plane.spots] == ["finalist", "chosen"]
    assert plane.levels == ((plane.up.place(92.0), "INT8, 8 bits"),)
    assert plane.across.high < 4
    assert findings_plane(found[:1]) is None
