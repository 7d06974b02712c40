"""Running what `mambamia batch` planned: the loop of mambamia_cli.batch between the terminal and the results."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mambamia_cli.batch.jobs import Job
from mambamia_cli.batch.keeper import Keeper
from mambamia_cli.batch.keys import key_of
from mambamia_cli.batch.results import Results
from mambamia_cli.batch.run import Sink, Tally, work_off
from mambamia_cli.cli import inputs
from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import Options
from mambamia_cli.cli.output import Output, ReaderGone, whole_file
from mambamia_cli.cli.scenes import SPINS
from mambamia_cli.errors import MambamiaError
from mambamia_cli.models.version import model_version
from mambamia_cli.records import JobRecord, to_json


@dataclass(frozen=True)
class Plan:
    """A checked run."""

    jobs: Sequence[Job]
    results: str | None
    failed: str | None
    force: bool
    retries: int
    max_failures: int | None


def run(plan: Plan, options: Options) -> int:
    """Do the jobs and say how it went; the exit code."""
    console = Console(quiet=options.quiet, verbose=options.verbose)
    engine, version, tally = inputs.engine_settings(options), model_version(options.model), Tally(len(plan.jobs))
    told = _Told(console, len(plan.jobs))
    spins = {"GOMP_SPINCOUNT": SPINS} if any(job.cmd == "scenes" for job in plan.jobs) else {}
    keeper = Keeper(engine, told.event, echo=options.debug, environment=spins)
    with _sink(plan, console) as sink:
        quiet = False
        try:
            work_off(plan.jobs, lambda job: key_of(job, engine, version), keeper, sink, told, tally,
                     timeout=options.timeout, retries=plan.retries, max_failures=plan.max_failures)  # fmt: skip
        except ReaderGone:
            quiet = True  # the reader has had enough
            raise
        finally:  # interrupted, too
            keeper.close()
            console.clear()
            if plan.failed is not None:
                with whole_file(Path(plan.failed)) as file:
                    file.write("".join(job.line() + "\n" for job in tally.failed).encode())
            if not quiet:
                console.say(tally.sentence())
    return tally.exit_code


def _sink(plan: Plan, console: Console) -> AbstractContextManager[Sink]:
    return nullcontext(_Stdout(console)) if plan.results is None else _File(plan.results, plan.force, console)


class _File(Results):
    """The results file, which says what it found damaged."""

    def __init__(self, path: str, force: bool, console: Console):
        super().__init__(path, force=force)
        self._console = console

    def __enter__(self) -> Self:
        super().__enter__()
        if self.damaged:
            self._console.warn(f"{self.path} has damaged lines ({self.damaged}); they count for nothing")
        return self


class _Stdout:
    """Records as they come, for another program; nothing can be gone on with."""

    def __init__(self, console: Console):
        self._console, self._output = console, Output(None)

    def settled(self, key: str, job: Job) -> bool:
        return False

    def write(self, record: JobRecord) -> None:
        self._console.clear()
        self._output.write(to_json(record) + "\n")


class _Told:
    """The run on stderr."""

    def __init__(self, console: Console, total: int):
        self._console, self._total, self._about = console, total, ""

    def begins(self, number: int, job: Job) -> None:
        self._console.begin(job.video, self._place(number))
        self._about = f"{self._place(number)}{job.video}: "

    def ended(self, number: int, job: Job, record: JobRecord) -> None:
        self._console.clear()
        if record.error is None:
            self._console.note(f"{self._place(number)}{job.video}: done in {record.seconds:.1f} s")
        else:
            self._console.error(self._place(number) + _about(job, MambamiaError.from_reason(record.error)))

    def again(self, number: int, job: Job, error: MambamiaError) -> None:
        self._console.warn(f"{self._place(number)}{_about(job, error)}; it will be tried again")

    def event(self, event: dict[str, Any]) -> None:
        """What the worker says."""
        if event["event"] == "progress":
            self._console.progress(event["stage"], event["done"], event["total"])
        elif event["event"] == "say":
            (self._console.warn if event["kind"] == "warning" else self._console.note)(self._about + event["text"])

    def _place(self, number: int) -> str:
        return f"[{number}/{self._total}] "


def _about(job: Job, error: MambamiaError) -> str:
    return str(error) if job.video in error.message else f"{job.video}: {error}"
