import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from sparseflow.report.codesign import CodesignRun, Die, Link, Phase, Seen, Weighing
from sparseflow.report.codesign_page import (
    convergence_plane,
    designs_plane,
    front,
    render_codesign,
    schedule,
    write_codesign,
)


def _die(slot: int, kind: str = "big_core") -> Die:
    return Die(
        slot=slot, type=kind, x_mm=30.0 * slot, y_mm=0.0, width_mm=25, height_mm=24, power_w=50, busy=0.7, memory_mb=9
    )


DIES = (_die(0), _die(2, "small <core>"))
RUN = CodesignRun(
    title="Co-design", headline="1.5 times less energy-delay, on 2 chips", network="net", radius_mm=150, t_max_c=40,
    dies=DIES, links=(Link(source=0, target=2, bytes=1e6),), gantt=tuple(schedule([(0, 2.0), (2, 1.0)], DIES)),
    phases=tuple(Phase(epoch=0, phase=p, accepted=a, objective=o) for p, a, o in (("B", True, 1.0), ("C", False, 1.0))),
    seen=tuple(
        Seen(latency_ms=a, energy_mj=b, area_mm2=600, chips=1, front=f, chosen=f)
        for a, b, f in ((1.0, 1.0, True), (2.0, 2.0, False))
    ),
    weighings=(
        Weighing(weight="area", factor=10, latency_ms=1, energy_mj=2, area_mm2=3, chips=1, changed=True),
    ),
    figures=(("Period", 2.0, "ms"),), protocol=("how",), command="sparseflow codesign report x",
)  # fmt: skip


def test_the_page_shows_every_part_and_asks_for_nothing():
    page = render_codesign(RUN)
    for part in (
        'id="wafer"',
        'id="gantt"',
        'id="chart-convergence"',
        'id="weights"',
        "chart-designs",
        "small &lt;core",
    ):
        assert part in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert page.count('class="die ') == 2
    assert page.count('class="slice ') == 8


def test_parts_that_are_empty_are_left_out():
    bare = replace(RUN, links=(), gantt=(), phases=(), seen=(), weighings=(), figures=(), protocol=(), command="")
    page = render_codesign(bare)
    for part in ('id="gantt"', 'id="weights"', "chart-designs", 'id="h-search"', 'id="h-proof"'):
        assert part not in page


def test_files_are_whole(tmp_path):
    page, data = write_codesign(RUN, tmp_path / "out")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(data.read_text(encoding="utf-8"))["figures"] == [["Period", 2.0, "ms"]]


def test_planes_need_two_points():
    assert convergence_plane(replace(RUN, phases=RUN.phases[:1])) is None
    assert designs_plane(RUN.seen[:1], "latency_ms", "energy_mj", ("", "")) is None
    assert [s.kind for s in convergence_plane(RUN).spots] == ["chosen", "teacher"]


def test_the_front_holds_what_nothing_beats():
    assert front([(1.0, 1.0), (1.0, 1.0), (0.5, 2.0), (2.0, 2.0)]) == [True, True, True, False]
    assert front([]) == []


@pytest.mark.parametrize("samples", [1, 3])
def test_a_schedule_keeps_order_and_slots_to_one_at_a_time(samples):
    slices = schedule([(0, 1.0), (1, 2.0), (0, 0.5)], DIES, samples=samples)
    assert len(slices) == 3 * samples
    for slot in (0, 1):
        own = sorted((s.start_ms, s.end_ms) for s in slices if s.slot == slot)
        assert all(a[1] <= b[0] for a, b in pairwise(own))
    for sample in range(samples):
        own = [s for s in slices if s.sample == sample]
        assert all(a.end_ms <= b.start_ms for a, b in pairwise(own))
