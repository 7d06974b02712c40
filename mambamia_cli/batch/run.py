"""The loop over the jobs: each ends as a record, or the run says that it was left undone."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mambamia_cli.batch.jobs import Job
from mambamia_cli.batch.keeper import Outcome
from mambamia_cli.errors import EXIT_SOME_FAILED, EXIT_STOPPED_EARLY, MambamiaError
from mambamia_cli.records import JobRecord

PASSING = frozenset({"download", "memory", "crash"})
"""Classes of errors that another try may not meet."""


class Sink(Protocol):
    """Where records go: results.Results, or stdout."""

    def settled(self, key: str, job: Job) -> bool: ...
    def write(self, record: JobRecord) -> None: ...


class Watcher(Protocol):
    """What is told of a run while it runs. number: the job's place in the list, from 1 on."""

    def begins(self, number: int, job: Job) -> None: ...
    def ended(self, number: int, job: Job, record: JobRecord) -> None: ...
    def again(self, number: int, job: Job, error: MambamiaError) -> None: ...


class Worker(Protocol):
    """Does a job: keeper.Keeper."""

    def do(self, job: dict[str, Any], timeout: float | None) -> Outcome: ...


@dataclass
class Tally:
    """How far a run came. `before`: what an earlier run (or an earlier line of the same key) had done; it counts as done, too."""

    total: int
    done: int = 0
    before: int = 0
    failed: list[Job] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)

    @property
    def left(self) -> int:
        return self.total - self.done - len(self.failed)

    @property
    def exit_code(self) -> int:
        """Of a run that came to its end."""
        return EXIT_STOPPED_EARLY if self.left else EXIT_SOME_FAILED if self.failed else 0

    def count(self, job: Job, record: JobRecord) -> None:
        if record.error is None:
            self.done += 1
        else:
            self.failed.append(job)
            self.classes[record.error["class"]] += 1

    def sentence(self) -> str:
        """"1000 jobs: 940 done (12 before), 60 failed: 40 input, 20 timeout"."""
        parts = ", ".join(f"{count} {name}" for name, count in self.classes.most_common())
        return (f"{self.total} job{'' if self.total == 1 else 's'}: {self.done} done" + (f" ({self.before} before)" if self.before else "")
                + f", {len(self.failed)} failed" + (f": {parts}" if parts else "") + (f"; {self.left} left undone" if self.left else ""))  # fmt: skip


@dataclass
class _Task:
    number: int
    job: Job
    attempts: int = 0
    seconds: float = 0.0


def work_off(
    jobs: Sequence[Job], key_of: Callable[[Job], str], worker: Worker, sink: Sink, watcher: Watcher, tally: Tally, *,
    timeout: float | None = None, retries: int = 0, max_failures: int | None = None,
) -> None:  # fmt: skip
    """Do the jobs that are not settled. What failed for a passing reason is tried again after all the others: by then it may
    have passed. `tally` is kept up to date, so that it tells how far a run came that was interrupted.

    Raises:
        MambamiaError: what every job would meet, or a record that cannot be written.
    """
    waiting = deque(_Task(number, job) for number, job in enumerate(jobs, 1))
    while waiting and (max_failures is None or len(tally.failed) < max_failures):
        task = waiting.popleft()
        # Only now: a file that changes while others are looked at has the key of what was looked at, not of what it was before.
        key = key_of(task.job)
        if sink.settled(key, task.job):
            tally.before += 1
            tally.done += 1
            continue
        watcher.begins(task.number, task.job)
        outcome = worker.do({"cmd": task.job.cmd, "video": task.job.video, **task.job.settings}, timeout)
        task.attempts += 1
        task.seconds += outcome.seconds
        error = outcome.error
        if error is not None and error.error_class in PASSING and task.attempts <= retries:
            watcher.again(task.number, task.job, error)
            waiting.append(task)
            continue
        record = _record(task, key, outcome)
        sink.write(record)
        tally.count(task.job, record)
        watcher.ended(task.number, task.job, record)


def _record(task: _Task, key: str, outcome: Outcome) -> JobRecord:
    error, job = outcome.error, task.job
    return JobRecord(job.id, key, job.cmd, job.video, "done" if error is None else "failed", task.attempts, round(task.seconds, 3),
                     records=outcome.records, error=None if error is None else error.reason)  # fmt: skip
