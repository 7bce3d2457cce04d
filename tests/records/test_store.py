import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from sparseflow.errors import ConfigError, RecordError
from sparseflow.records import Key, Record, Store


def key(decision="d", layer="l", **other):
    return Key(layer=layer, decision=decision, **{"target": "t", "protocol": "p", **other})


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "deep" / "r.sqlite") as store:
        yield store


def test_append_numbers_dates_and_keeps(store):
    given = Record(
        key=key(source="abc"), value=2.0, name="c1", decision={"kernel": "event"}, stats={"iqr_s": 0.5}, run="r"
    )
    kept = store.append(given)
    assert kept.id == 1
    assert kept.created_at.tzinfo is not None
    again = Store(store.url)
    assert again.get(1) == kept
    assert list(again) == [kept]
    assert len(again) == 1
    assert again.find(given.key) == [kept]
    assert again.find(key()) == []


def test_extend_is_all_or_nothing(store):
    with pytest.raises(ConfigError, match="not plain JSON"):
        store.extend([Record(key=key(), value=1.0), Record(key=key(), value=1.0, decision={"f": object()})])
    assert len(store) == 0


def test_records_are_filtered_newest_first(store):
    store.extend([Record(key=key("a"), value=1.0), Record(key=key("b"), failure="no"), Record(key=key("a"), value=3.0)])
    assert [r.id for r in store.records()] == [3, 2, 1]
    assert [r.id for r in store.records(limit=1)] == [3]
    assert [r.id for r in store.records(failed=True)] == [2]
    assert [r.id for r in store.records(failed=False, decision="a", layer="l")] == [3, 1]
    assert store.records(layer="other") == []
    with pytest.raises(ConfigError, match="no filter 'colour'"):
        store.records(colour="red")


def test_a_device_is_found_with_and_without_its_hash(store):
    targets = ["cpu", "cpu-12345678", "cpux-12345678", "c%u", "h200"]
    store.extend(Record(key=key(target=t), value=1.0) for t in targets)
    assert {r.key.target for r in store.records(device="cpu")} == {"cpu", "cpu-12345678"}
    assert [r.key.target for r in store.records(device="cpu-12345678")] == ["cpu-12345678"]
    assert [r.key.target for r in store.records(device="c%u")] == ["c%u"]
    assert [r.key.target for r in store.records(target="cpu")] == ["cpu"]


def test_ranking_takes_the_median_of_each_decision_and_skips_failures(store):
    values = {"lucky": [1.0, 9.0, 9.0], "steady": [2.0, 2.5, 3.0], "slow": [20.0]}
    for decision, measured in values.items():
        store.extend(Record(key=key(decision), value=v) for v in measured)
    store.append(Record(key=key("broken"), value=0.1))
    store.append(Record(key=key("broken"), failure="out of memory"))
    assert [(r.key.decision, r.value) for r in store.get_top_k(9, layer="l")] == [
        ("steady", 2.5),
        ("lucky", 9.0),
        ("slow", 20.0),
    ]
    assert store.best(layer="l").key.decision == "steady"
    assert store.best(layer="unknown") is None
    assert len(store.get_top_k(1)) == 1


def test_ranking_refuses_mixed_units(store):
    store.extend([Record(key=key("a"), value=1.0), Record(key=key("b"), value=1.0, unit="J")])
    with pytest.raises(ConfigError, match="different units"):
        store.best(layer="l")
    assert store.best(layer="l", unit="J").key.decision == "b"


def test_unknown_number(store):
    with pytest.raises(RecordError, match="no record 7"):
        store.get(7)


def test_a_store_in_memory():
    store = Store("sqlite://")
    store.append(Record(key=key(), value=1.0))
    assert len(store) == 1


def test_threads_share_one_store(store):
    def write(n):
        for i in range(10):
            store.append(Record(key=key(f"{n}-{i}"), value=1.0))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(store) == 40


WRITER = """
import sys
from sparseflow.records import Key, Record, Store
store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[3])):
    store.append(Record(key=Key(layer="l", decision=f"{sys.argv[2]}-{i}", target="t", protocol="p"), value=1.0))
    print(i, flush=True)
"""


def _writer(path, name, count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_create_and_write_one_file_together(tmp_path):
    path = tmp_path / "r.sqlite"
    writers = [_writer(path, str(n), 40) for n in range(2)]
    for w in writers:
        assert w.stdout.readline() == "ready\n"
    for w in writers:
        w.stdin.write("\n")
        w.stdin.flush()
    for w in writers:
        w.communicate(timeout=60)
        assert w.returncode == 0
    assert len(Store(path)) == 80


def test_a_killed_writer_loses_nothing_that_it_reported(tmp_path):
    path = tmp_path / "r.sqlite"
    writer = _writer(path, "w", 100_000)
    writer.stdout.readline()
    writer.stdin.write("\n")
    writer.stdin.flush()
    for _ in range(5):
        reported = int(writer.stdout.readline())
    writer.kill()
    writer.communicate()
    store = Store(path)
    assert len(store) > reported
    store.append(Record(key=key(), value=1.0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_may_write(store):
    store.append(Record(key=key("parent"), value=1.0))
    code = f"""
import os
from sparseflow.records import Key, Record, Store
store = Store({store.url!r})
def add(name):
    store.append(Record(key=Key(layer="l", decision=name, target="t", protocol="p"), value=1.0))
add("before")
pid = os.fork()
add("child" if pid == 0 else "after")
if pid: assert os.waitpid(pid, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
    assert {r.key.decision for r in store} == {"parent", "before", "child", "after"}


@pytest.mark.parametrize("damage", ["text", "half", "tables"])
def test_a_damaged_file_is_named_with_the_mend(tmp_path, damage):
    path = tmp_path / "r.sqlite"
    store = Store(path)
    store.extend(Record(key=key(str(i)), value=1.0) for i in range(200))
    store.close()
    if damage == "text":
        path.write_text("this is not a database, but it is long enough to have a header" * 20)
    elif damage == "half":
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    else:
        path.unlink()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE recipe (cake TEXT)")
        connection.close()
    with pytest.raises(RecordError, match=r"r\.sqlite") as caught:
        list(Store(path))
    mend = "name another file" if damage == "tables" else f"mv {path} {path}.damaged"
    assert mend in str(caught.value)


def test_another_schema_is_refused(tmp_path):
    path = tmp_path / "r.sqlite"
    Store(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE sparseflow_info SET value = '99'")
    connection.commit()
    connection.close()
    with pytest.raises(RecordError, match="schema 99, this sparseflow reads schema 1"):
        Store(path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot make folder"):
        Store(tmp_path / "file" / "r.sqlite")
    with pytest.raises(RecordError, match="name another one with SPARSEFLOW_RECORDS"):
        Store(tmp_path)


def test_the_environment_names_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSEFLOW_RECORDS", str(tmp_path / "named.sqlite"))
    assert Store().url.endswith("named.sqlite")
    assert (tmp_path / "named.sqlite").exists()


def test_a_password_is_never_shown():
    with pytest.raises((RecordError, ConfigError)) as caught:
        Store("postgresql://me:secret@127.0.0.1:1/none?connect_timeout=1")
    assert "secret" not in str(caught.value)


@pytest.fixture(scope="module")
def postgres():
    """URL of a PostgreSQL server: the one named by the environment, else one started here."""
    pytest.importorskip("psycopg", reason="no psycopg: pip install 'sparseflow[postgres]'")
    url = os.environ.get("SPARSEFLOW_TEST_POSTGRES")
    if url:
        yield url
        return
    initdb, control = shutil.which("initdb"), shutil.which("pg_ctl")
    if not initdb or not control:
        pytest.skip("no PostgreSQL server: set SPARSEFLOW_TEST_POSTGRES, or put initdb and pg_ctl on the path")
    # The server refuses to run as root, and its socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="sparseflow-pg-"))
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, "timeout": 60}
    data = folder / "data"
    try:
        if user:
            shutil.chown(folder, "postgres")
        subprocess.run([initdb, "-D", data, "-U", "me", "-A", "trust", "--no-sync"], **quiet, **user)
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        subprocess.run([control, "-D", data, "-o", options, "-l", folder / "log", "-w", "start"], **quiet, **user)
    except (subprocess.SubprocessError, OSError, LookupError) as e:
        shutil.rmtree(folder)
        pytest.skip(f"PostgreSQL does not start here: {e}")
    yield f"postgresql://me@/postgres?host={folder}"
    subprocess.run([control, "-D", data, "-m", "immediate", "stop"], **quiet, **user)
    shutil.rmtree(folder)


def test_postgres_keeps_the_same_records(postgres):
    with Store(postgres) as store:
        before = len(store)
        kept = store.append(
            Record(key=key("pg"), value=2.0, decision={"kernel": "event"}, stats={"iqr_s": 0.5}, name="c1")
        )
        assert Store(postgres).get(kept.id) == kept
        assert store.best(layer="l", decision="pg").value == 2.0
        assert len(store) == before + 1
        with pytest.raises(RecordError, match="append-only"), store._guard(), store._engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM sparseflow_record")


def test_numbers_that_no_database_knows_are_only_not_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "records.sqlite")
    for number in (0, -1, 10**30):
        with pytest.raises(RecordError, match="has no record"):
            store.get(number)
    assert store.records(limit=10**30) == []
