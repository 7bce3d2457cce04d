import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparseflow.recipes.spike_bench.gpu.settings import GpuBenchConfig

ROOT = Path(__file__).parents[2]
SMI = """#!/bin/bash
case "$*" in *index*) for ((i = 0; i < {gpus}; i++)); do echo $i; done ;; *) echo "NVIDIA H200" ;; esac
"""
# Writes the record of a piece, and notes how it was called; joining is left to the real interpreter.
PYTHON = """#!/bin/bash
case "$*" in *--merge*|*--joins*) exec {python} "$@" ;; esac
while [ $# -gt 0 ]; do
  case "$1" in
    --out) out=$2 ;; --only) only=$2 ;; --case) part=$2 ;; --part) part=$2 ;; --commit) commit=$2 ;;
  esac
  shift
done
echo "$CUDA_VISIBLE_DEVICES $(basename $out .json) $(taskset -cp $$ | sed 's/.*: //')" >>{calls}
[ "$(basename $out .json)" = "{dies}" ] && exit 139
check='{{"show": "1", "name": "c", "value": 1, "unit": "x", "target": ">= 1", "ok": true}}'
echo '{{"bench": "spike-gpu", "target": "h200", "device": "NVIDIA H200", "quick": false, "commit": "'$commit'",' \\
  '"when": "now", "stages": {{"'$only'": {{"checks": ['$check'], "rows": [], "errors": {{}},' \\
  '"parts": ["'$part'"]}}}}}}' | sed 's/\\[""\\]/[]/' >$out
"""


@pytest.fixture
def visit(tmp_path):
    def run(*stages, gpus=1, dies="", **more):
        bin = tmp_path / "bin"
        bin.mkdir(exist_ok=True)
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        files = {
            "nvidia-smi": SMI.format(gpus=gpus),
            "python3": PYTHON.format(python=sys.executable, calls=calls, dies=dies),
            "nproc": "#!/bin/bash\necho $(taskset -cp $$ | sed 's/.*: //' | tr ',-' '\\n\\n' | wc -l)\n",
        }
        for name, text in files.items():
            (bin / name).write_text(text)
            (bin / name).chmod(0o755)
        env = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "OUT": str(tmp_path / "out"), "CKPT": "", **more}
        done = subprocess.run(
            ["bash", "benchmarks/gpu_bench.sh", *stages], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )
        made = tmp_path / "out" / "spike_h200.json"
        seen = [line.split() for line in calls.read_text().splitlines()] if calls.exists() else []
        return done, json.loads(made.read_text()) if made.exists() else None, seen

    return run


def failed(body):
    return [c["name"] for c in body["checks"] if not c["ok"] and "builder" not in c["name"]]


def test_one_gpu_runs_every_piece_one_after_the_other(visit):
    done, body, seen = visit()
    assert len(seen) == 9, done.stdout + done.stderr
    assert {gpu for gpu, *_ in seen} == {"0"}
    assert failed(body) == []
    assert len(body["stages"]["network"]["parts"]) == 4
    assert "coverage on GPU 0: status 0" in done.stdout


def test_two_gpus_share_the_pieces_and_the_processors(visit):
    _, body, seen = visit(gpus=2)
    assert {gpu for gpu, *_ in seen} == {"0", "1"}
    assert len(seen) == len({piece for _, piece, *_ in seen}) == 9
    if len(os.sched_getaffinity(0)) >= 2:
        assert len({tuple(where) for _, _, *where in seen}) == 2
    assert failed(body) == []


def test_two_visits_share_the_pieces_and_the_second_joins_them(visit):
    done, body, first = visit(gpus=2, VISIT="1/2")
    assert "visit 1/2" in done.stdout
    assert {piece for _, piece, *_ in first} == {
        "network-spiking_resnet50-32", "network-sew_resnet18-1", "correct", "network-sew_resnet18-32",
    }  # fmt: skip
    assert {gpu for gpu, *_ in first} == {"0", "1"}
    # What belongs to the second visit is missing, but no record that should be there is.
    assert not any(name.startswith("record") for name in failed(body))
    assert "stage memory ran" in failed(body)
    done, body, second = visit(gpus=2, VISIT="2/2")
    assert len(first) + len(second) == len({piece for _, piece, *_ in first + second}) == 9
    first_lane = {"coverage", "memory"}
    assert {gpu for gpu, piece, *_ in second if piece in first_lane} == {"0"}
    assert {gpu for gpu, piece, *_ in second if piece not in first_lane} == {"1"}
    assert failed(body) == []


def test_the_second_visit_runs_again_what_did_not_come_to_its_end_in_the_first(visit):
    _, body, _ = visit(gpus=2, dies="correct", VISIT="1/2")
    assert "record correct is written" in failed(body)
    _, body, second = visit(gpus=2, VISIT="2/2")
    assert ["1", "correct"] in [line[:2] for line in second]
    assert len(second) == 6
    assert failed(body) == []


def test_the_second_visit_to_another_machine_runs_its_own_pieces_alone(visit):
    _, body, seen = visit(gpus=2, VISIT="2/2")
    assert len(seen) == 5
    assert "record correct is written" in failed(body)


def test_a_piece_that_dies_fails_checks_and_a_later_call_mends_it(visit):
    done, body, _ = visit(dies="network-sew_resnet18-1")
    assert "network-sew_resnet18-1 on GPU 0: status 139" in done.stdout
    assert done.returncode == 1
    assert failed(body) == [
        "record network-sew_resnet18-1 is written", "stage network, sew_resnet18:1, ran",
    ]  # fmt: skip
    _, body, seen = visit("network")
    assert len(seen) == 4
    assert failed(body) == []


def test_what_is_not_timed_may_use_idle_processors_of_all_lanes_but_two_of_each_and_those_of_the_builders():
    text = (ROOT / "benchmarks" / "gpu_bench.sh").read_text()
    part = text[text.index("stages=(") : text.index("run_lane() {")]
    part += text[text.index('helpers="" each') : text.index("for ((gpu = 0; gpu < gpus; gpu++)); do\n  lines=()")]
    for gpus, cpus, visit, stages, expected in (
        (2, 32, "1/2", "", "2-15,18-31"),
        (2, 32, "2/2", "", "18-31"),
        (2, 32, "", "correct coverage", "18-31"),
        (2, 32, "", "correct seed", "2-15,18-31"),
        (4, 64, "", "", "2-15,18-31,50-63"),
        (1, 16, "", "", ""),
        (4, 8, "", "", ""),
    ):
        script = (
            f"set -u; gpus={gpus} cpus={cpus} VISIT={visit} OUT=/nowhere options=(); set -- {stages}; {part} "
            "echo ${options[@]}"
        )
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == (["--helpers", expected] if expected else [])
        assert GpuBenchConfig(helpers=expected).helpers == expected


def test_some_stages_run_again_beside_the_pieces_of_an_earlier_visit(visit, tmp_path):
    _, body, _ = visit(gpus=2, dies="coverage", COMMIT="abc")
    assert "stage coverage ran" in failed(body)
    archive = tmp_path / "pieces.tgz"
    subprocess.run(["tar", "czf", archive, "-C", tmp_path / "out", "pieces"], check=True)
    again = {"gpus": 2, "PIECES": str(archive), "OUT": str(tmp_path / "other")}
    # The pieces name no sources, and no repository knows their commit: nothing tells whether they fit another.
    done, _, seen = visit("correct", "coverage", **again, COMMIT="abcd")
    assert done.returncode == 2
    assert "the sources of commit 'abc" in done.stderr
    assert seen == []
    done, _, seen = visit("correct", "coverage", **again, COMMIT="abc")
    assert {tuple(line[:2]) for line in seen} == {("0", "coverage"), ("1", "correct")}
    body = json.loads((tmp_path / "other" / "spike_h200.json").read_text())
    assert failed(body) == []
    assert len(body["stages"]["network"]["parts"]) == 4
    assert "coverage on GPU 0: status 0" in done.stdout


def test_pieces_of_another_device_are_refused_before_anything_runs(visit, tmp_path):
    piece = tmp_path / "out" / "pieces" / "seed.json"
    piece.parent.mkdir(parents=True)
    piece.write_text(json.dumps({"device": "NVIDIA H100", "commit": "abc", "stages": {}}))
    done, _, seen = visit("blocks", COMMIT="abc")
    assert done.returncode == 2
    assert "seed.json is of device 'NVIDIA H100'" in done.stderr
    assert seen == []


def test_a_stage_for_which_no_time_is_left_is_told(visit):
    done, body, seen = visit("blocks", "seed", TOTAL="20")
    assert "no time left" in done.stdout
    assert seen == []
    assert body is None
    assert done.returncode != 0


@pytest.mark.parametrize(("gpus", "cpus"), [(1, 16), (2, 32), (4, 64), (4, 8), (3, 16)])
def test_lanes_share_the_processors_without_a_rest(gpus, cpus):
    text = (ROOT / "benchmarks" / "gpu_bench.sh").read_text()
    lines = [line.strip() for line in text.splitlines()]
    cores = next(line for line in lines if line.startswith("cores="))
    script = f"gpus={gpus} cpus={cpus}; for ((gpu = 0; gpu < gpus; gpu++)); do each=$((cpus / gpus)); {cores}; "
    done = subprocess.run(["bash", "-c", script + "echo $cores; done"], capture_output=True, text=True, check=True)
    ranges = [tuple(map(int, line.split("-"))) for line in done.stdout.split()]
    used = [core for low, high in ranges for core in range(low, high + 1)]
    assert used == list(range(cpus))
    assert len(ranges) == gpus
