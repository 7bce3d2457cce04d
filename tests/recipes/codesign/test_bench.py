from types import SimpleNamespace

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.codesign import bench as room


def test_suites_are_joined_and_one_miss_spoils_all(monkeypatch):
    def fake(name):
        ok = not name.endswith("layout_bench")
        body = {"checks": [{"name": name, "ok": ok}], "ok": ok, "n": 1}
        return SimpleNamespace(bench=lambda *, quick, say: dict(body))

    monkeypatch.setattr(room, "import_module", fake)
    good, bad = room.bench(["mapping"]), room.bench(["mapping", "layout", "mapping"])
    assert good["ok"]
    assert not bad["ok"]
    assert [c["ok"] for c in bad["checks"]] == [True, False]
    assert bad["suites"] == {"mapping": {"n": 1}, "layout": {"n": 1}}


@pytest.mark.parametrize("suites", [[], ["maps"]])
def test_no_suite_or_an_unknown_one_is_refused(suites):
    with pytest.raises(ConfigError):
        room.bench(suites)
