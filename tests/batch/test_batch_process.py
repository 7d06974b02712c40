"""What only processes show: kills, signals, closed pipes, and that no worker outlives its supervisor."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch.conftest import records

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="finds workers in /proc")


def until(fact, seconds=60):
    """Wait for `fact()` to be true and give it back."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return found


def workers(supervisor: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == supervisor and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def busy(pid: int) -> bool:
    """Whether a worker has begun to look: it has opened the long video."""
    try:
        return any("long-batch" in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


@pytest.fixture
def looks(short_video, long_video):
    """A quick job, one that takes long, and another that is quick."""
    quick, slow = {"video": str(short_video), "cmd": "scenes"}, {"video": str(long_video), "cmd": "scenes", "fps": "all", "refine": False}
    return quick, slow, {**quick, "start": 0.5}


@pytest.fixture
def start(spawn, jobs_file, tiny_model, tmp_path):
    """start(jobs, argv...) -> a run in a process of its own; its results are in r.jsonl."""
    return lambda jobs, *argv, **options: spawn("batch", jobs_file(*jobs), "-m", tiny_model, "-o", tmp_path / "r.jsonl", *argv, **options)


def test_a_killed_run_leaves_no_worker_and_goes_on_where_it_was(start, mambamia, looks, jobs_file, tiny_model, tmp_path):
    path = tmp_path / "r.jsonl"
    first = start(looks)
    until(lambda: path.exists() and path.read_text().count("\n") == 1)
    worker = until(lambda: [pid for pid in workers(first.pid) if busy(pid)])[0]
    assert "libtorch" in Path(f"/proc/{worker}/maps").read_text() and "libtorch" not in Path(f"/proc/{first.pid}/maps").read_text()
    second = mambamia("batch", jobs_file(*looks), "-m", tiny_model, "-o", path)
    assert second.code == 2 and "another run is writing" in second.one_sentence()
    first.kill()
    until(lambda: gone(worker), 5)
    done = path.read_bytes()
    path.write_bytes(done + done[:70])  # as a power cut would leave it

    quick = {**looks[1], "end": 1}
    third = mambamia("batch", jobs_file(looks[0], quick, looks[2]), "-m", tiny_model, "-o", path)
    assert (third.code, third.err) == (0, "mambamia: 3 jobs: 3 done (1 before), 0 failed\n")
    assert path.read_bytes().startswith(done) and [one["status"] for one in records(path)] == ["done"] * 3


def test_a_worker_that_is_killed_costs_its_job_only(start, looks, tmp_path):
    quick, slow, _ = looks
    run = start([slow, {**slow, "start": 1}, quick], "--failed", tmp_path / "failed")
    for number in (signal.SIGKILL, signal.SIGSEGV):
        worker = until(lambda: [pid for pid in workers(run.pid) if busy(pid)])[0]
        os.kill(worker, number)
        until(lambda: gone(worker))  # noqa: B023
    _, err = run.communicate(timeout=60)
    made = records(tmp_path / "r.jsonl")
    assert run.returncode == 1 and [one.get("error", {}).get("class") for one in made] == ["memory", "crash", None]
    assert "SIGSEGV" in made[1]["error"]["message"] and len(err.splitlines()) == 3
    assert err.splitlines()[-1] == "mambamia: 3 jobs: 1 done, 2 failed: 1 memory, 1 crash"
    assert len((tmp_path / "failed").read_text().splitlines()) == 2


def test_a_job_that_takes_too_long_fails_alone(mambamia, looks, jobs_file, tiny_model, tmp_path):
    ran = mambamia("batch", jobs_file(looks[1], {"video": "none.mp4", "cmd": "scenes"}), "-m", tiny_model, "-o", tmp_path / "r.jsonl", "--timeout", 1)
    made = records(tmp_path / "r.jsonl")
    assert ran.code == 1 and [one["error"]["class"] for one in made] == ["timeout", "input"], "the next worker takes the next job"
    assert made[0]["seconds"] >= 1 and "took longer than 1 s" in made[0]["error"]["message"]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_keeps_what_is_done(start, looks, tmp_path, number, code):
    run = start([{**looks[0], "video": "none.mp4"}, *looks], "--failed", tmp_path / "failed", start_new_session=True)
    until(lambda: (tmp_path / "r.jsonl").exists() and (tmp_path / "r.jsonl").read_text().count("\n") == 2)
    worker = until(lambda: [pid for pid in workers(run.pid) if busy(pid)])[0]
    (os.killpg if number == signal.SIGINT else os.kill)(run.pid, number)  # a terminal signals the whole group
    out, err = run.communicate(timeout=30)
    assert (run.returncode, out) == (code, "") and gone(worker)
    assert err.splitlines()[1:] == ["mambamia: 4 jobs: 1 done, 1 failed: 1 input; 2 left undone", "mambamia: error: interrupted"]
    assert [one["status"] for one in records(tmp_path / "r.jsonl")] == ["failed", "done"]
    assert [json.loads(line)["video"] for line in (tmp_path / "failed").read_text().splitlines()] == ["none.mp4"]


def test_a_closed_pipe_ends_quietly(spawn, jobs_file, looks, tiny_model):
    run = spawn("batch", jobs_file(looks[0], looks[2], looks[1]), "-m", tiny_model)
    line = json.loads(run.stdout.readline())
    run.stdout.close()
    assert line["status"] == "done" and line["video"] == looks[0]["video"]
    assert run.stderr.read() == "" and run.wait(timeout=60) == 0
    until(lambda: not workers(run.pid), 5)


SUPERVISOR = """
import sys
from mambamia_cli.batch.keeper import Keeper
worker = '''
import ctypes, os, time
from mambamia_cli.batch import worker
class Looker:
    def records(self, job):
        open(job["pid"], "w").write(str(os.getpid()))
        {hang}
worker._ready = lambda engine, voice: (voice.send("ready"), Looker())[1]
{before}
worker.main()
'''
Keeper({{}}, print, command=[sys.executable, "-c", worker]).do({{"video": "a", "pid": sys.argv[1]}}, None)
"""


@pytest.mark.parametrize("hang, before", [
    # A library that hangs with the interpreter's lock in its hands: no thread of ours sees that stdin ended.
    pytest.param("ctypes.PyDLL(None).sleep(1000)", "", id="holding the lock", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux alone")),
    pytest.param("time.sleep(1000)", "worker._die_with_parent = lambda: None", id="without Linux's help"),
])  # fmt: skip
def test_a_worker_that_hangs_in_silence_ends_with_its_supervisor(tmp_path, hang, before):
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR.format(hang=hang, before=before), str(tmp_path / "pid")])
    worker = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    try:
        assert not gone(worker)
        supervisor.kill()
        supervisor.wait()
        until(lambda: gone(worker), 10)
    finally:
        if not gone(worker):
            os.kill(worker, signal.SIGKILL)
