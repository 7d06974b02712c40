"""The worker from the outside: its events, its deaths, its time, and that nothing of it stays."""

import os
import signal
import sys
import time

import pytest
from fixtures import fake_worker

from mambamia_cli.batch.keeper import Keeper
from mambamia_cli.errors import CrashError, InputError, ModelError, TimedOutError


def pid_of(outcome) -> int:
    return outcome.records[0]["pid"]


def alive(pid: int) -> bool:
    """Whether a process runs; a killed one that nobody waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_jobs_are_done_by_one_worker(keeper):
    first, second = (keeper.do({"video": name}, 20) for name in ("a", "b"))
    assert pid_of(first) == pid_of(second) and second.records[0]["job"] == {"video": "b"} and second.error is None


def test_what_libraries_print_does_not_damage_the_events(keeper):
    for video in ("noise", "a"):
        outcome = keeper.do({"video": video}, 20)
        assert outcome.error is None and outcome.records[0]["job"] == {"video": video}


def test_a_record_larger_than_a_pipe(keeper):
    assert len(keeper.do({"video": "big"}, 20).records[0]["text"]) == 3_000_000


def test_a_failed_job_has_its_error_and_the_worker_stays(keeper):
    pid, outcome = pid_of(keeper.do({"video": "a"}, 20)), keeper.do({"video": "failed"}, 20)
    assert isinstance(outcome.error, InputError) and outcome.error.reason == {"class": "input", "message": "failed is no video", "hint": "look"}
    assert pid_of(keeper.do({"video": "b"}, 20)) == pid


@pytest.mark.parametrize("kind", ["internal", "memory"])
def test_a_worker_that_may_be_spoiled_is_replaced(keeper, kind):
    pid, outcome = pid_of(keeper.do({"video": "a"}, 20)), keeper.do({"video": "fails", "class": kind}, 20)
    assert outcome.error.error_class == kind and not alive(pid) and pid_of(keeper.do({"video": "b"}, 20)) != pid


@pytest.mark.parametrize("video, kind, words", [
    ("killed", "memory", "most likely because memory ran out"),
    ("segfault", "crash", "SIGSEGV"),
    ("real-time", "crash", "signal 40"),
    ("words", "crash", "exit code 7, its last words: double free or corruption"),
])  # fmt: skip
def test_a_dead_worker_is_explained_and_replaced(keeper, video, kind, words):
    pid, outcome = pid_of(keeper.do({"video": "a"}, 20)), keeper.do({"video": video}, 20)
    assert outcome.error.error_class == kind and words in outcome.error.message and outcome.error.hint
    assert pid_of(keeper.do({"video": "b"}, 20)) != pid


@pytest.mark.parametrize("video", ["hang", "deaf"])
def test_a_job_that_takes_too_long_is_killed(keeper, video):
    pid, began = pid_of(keeper.do({"video": "a"}, 20)), time.monotonic()
    outcome = keeper.do({"video": video}, 0.4)
    assert isinstance(outcome.error, TimedOutError) and f"{video} took longer than 0.4 s" in str(outcome.error)
    assert 0.4 <= time.monotonic() - began < 5 and not alive(pid)
    assert pid_of(keeper.do({"video": "b"}, 20)) != pid


def test_loading_weights_is_not_the_jobs_time(keeper):
    keeper.do({"video": "a"}, 20)
    assert keeper.do({"video": "load"}, 0.5).error is None


def test_what_a_worker_started_dies_with_it(keeper, tmp_path):
    keeper.do({"video": "a"}, 20)
    keeper.do({"video": "group", "pidfile": str(tmp_path / "pid")}, 1)
    pid, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:  # nobody here waits for it, so its end takes a moment to show
        time.sleep(0.01)
    assert not alive(pid)


def test_progress_is_passed_on(keeper, heard):
    keeper.do({"video": "a"}, 20)
    keeper.do({"video": "hang"}, 0.3)
    assert heard[0] == {"event": "progress", "stage": "watching", "done": 1, "total": 2, "loading": False}


def test_the_start_of_a_worker_is_not_the_jobs_time(monkeypatch, keeper):
    start = keeper._start
    monkeypatch.setattr(keeper, "_start", lambda: (time.sleep(1), start()))
    assert keeper.do({"video": "a"}, 20).seconds < 1


def test_a_worker_killed_between_jobs_costs_no_job(keeper):
    pid = pid_of(keeper.do({"video": "a"}, 20))
    os.kill(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.01)
    assert pid_of(keeper.do({"video": "b"}, 20)) != pid


def test_a_refusal_ends_the_run(keeper):
    with pytest.raises(ModelError, match="weights are gone"):
        keeper.do({"video": "refused"}, 20)


@pytest.mark.parametrize("engine, kind, words", [({"refuses": 1}, ModelError, "there are no weights"), ({"dies": 1}, CrashError, "exit code 3")])
def test_a_worker_that_never_gets_ready_ends_the_run(monkeypatch, engine, kind, words):
    monkeypatch.setattr("mambamia_cli.batch.keeper.START_PAUSE", 0.05)
    keeper = Keeper(engine, print, command=[sys.executable, "-S", fake_worker.__file__])
    with pytest.raises(kind, match=words):
        keeper.do({"video": "a"}, 20)
    keeper.close()


def test_closing_kills_the_worker(keeper):
    pid = pid_of(keeper.do({"video": "a"}, 20))
    keeper.close()
    assert not alive(pid)
    keeper.close()
