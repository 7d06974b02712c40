"""The loop: what is tried again, when a run stops early, and how it is summed up."""

import pytest

from mambamia_cli.batch.jobs import Job
from mambamia_cli.batch.keeper import Outcome
from mambamia_cli.batch.run import Tally, work_off
from mambamia_cli.errors import CrashError, DownloadError, InputError, ModelError, OutOfMemoryError, TimedOutError

ERRORS = {"crash": CrashError, "download": DownloadError, "input": InputError, "memory": OutOfMemoryError, "timeout": TimedOutError}


class Run:
    """A run over jobs called "ok", or "CLASS" for one that always fails, or "CLASS*N" for one that fails N times."""

    def __init__(self, *names, done=(), **options):
        self.jobs = [Job("scenes", f"{i} {name}", {}) for i, name in enumerate(names)]
        self.done, self.tried, self.records, self.tally = done, [], [], Tally(len(names))
        work_off(self.jobs, lambda job: job.video, self, self, self, self.tally, **options)

    def do(self, job, timeout):
        self.tried.append(job["video"])
        kind, _, times = job["video"].split()[1].partition("*")
        if kind == "model":
            raise ModelError("no weights")
        if kind == "ok" or (times and self.tried.count(job["video"]) > int(times)):
            return Outcome(({"n": 1},), seconds=10)
        return Outcome(error=ERRORS[kind]("it failed", "mend it"), seconds=10)

    def settled(self, key, job):
        return key in self.done

    def write(self, record):
        self.records.append(record)

    def begins(self, number, job): ...
    def ended(self, number, job, record): ...
    def again(self, number, job, error): ...


def test_every_job_has_a_record():
    run = Run("ok", "input", "timeout", "ok", "input")
    assert [record.status for record in run.records] == ["done", "failed", "failed", "done", "failed"]
    assert run.records[1].error == {"class": "input", "message": "it failed", "hint": "mend it"} and run.records[1].records is None
    assert run.tally.sentence() == "5 jobs: 2 done, 3 failed: 2 input, 1 timeout" and run.tally.exit_code == 1
    assert run.tally.failed == [run.jobs[1], run.jobs[2], run.jobs[4]]


def test_what_is_settled_is_not_done_again():
    run = Run("ok", "input", "ok", done=("0 ok",))
    assert run.tried == ["1 input", "2 ok"] and run.tally.sentence() == "3 jobs: 2 done (1 before), 1 failed: 1 input"


@pytest.mark.parametrize("kind", ["crash", "download", "memory"])
def test_what_may_pass_is_tried_again_after_the_others(kind):
    run = Run(f"{kind}*2", "ok", retries=2)
    assert run.tried == [f"0 {kind}*2", "1 ok", f"0 {kind}*2", f"0 {kind}*2"] and run.tally.exit_code == 0
    assert [(record.video, record.attempts) for record in run.records] == [("1 ok", 1), (f"0 {kind}*2", 3)]


def test_tries_come_to_an_end():
    run = Run("crash", retries=2)
    assert len(run.tried) == 3 and run.records[0].attempts == 3 and run.tally.exit_code == 1
    assert len(Run("crash").tried) == 1


@pytest.mark.parametrize("kind", ["input", "timeout"])
def test_what_will_not_pass_is_tried_once(kind):
    assert len(Run(kind, retries=5).tried) == 1


def test_max_failures_stops_early():
    run = Run("ok", "input", "ok", "crash", "ok", max_failures=2)
    assert len(run.tried) == 4 and run.tally.exit_code == 101
    assert run.tally.sentence() == "5 jobs: 2 done, 2 failed: 1 input, 1 crash; 1 left undone"


def test_max_failures_with_nothing_left_is_no_early_stop():
    assert Run("ok", "input", max_failures=1).tally.exit_code == 1
    assert Run("ok", "input", "ok", max_failures=2).tally.exit_code == 1


def test_what_every_job_would_meet_ends_the_run():
    with pytest.raises(ModelError):
        Run("ok", "model", "ok")


def test_the_time_of_all_tries_counts():
    assert Run("crash*1", retries=1).records[0].seconds == 20


def test_nothing_to_do():
    assert Run().tally.sentence() == "0 jobs: 0 done, 0 failed" and Run().tally.exit_code == 0
    assert Run("ok").tally.sentence() == "1 job: 1 done, 0 failed"
