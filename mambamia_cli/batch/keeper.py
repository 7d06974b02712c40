"""One worker process at a time, from the outside: it is started, given a job, waited for, killed, and its death explained."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from mambamia_cli.errors import CrashError, MambamiaError, OutOfMemoryError, TimedOutError

START_SECONDS = 3600.0
"""A worker has so long to import torch, find its device and (of a hub id) fetch the model; and, where jobs have a time limit, to load weights."""
START_TRIES = 3
"""A machine may lack memory for a moment; a worker that dies so often before it is ready will not do better."""
START_PAUSE = 2.0

SPOILING = frozenset({"internal", "memory"})
"""Classes of errors after which a worker is replaced: a CUDA context that failed once fails every job to come."""

LAST_WORDS = 4096  # bytes of the worker's stderr that are kept

# The worker finds modules where this process does, and not in the working directory, where a video's neighbour may be av.py.
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from mambamia_cli.batch.worker import main; main()"

Event = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came of a job: records, or the error it failed with. `seconds` are the job's, without the start of a worker."""

    records: tuple[Event, ...] | None = None
    error: MambamiaError | None = None
    seconds: float = 0.0


class Keeper:
    """Keeps a worker for a run. `tell` gets its events about progress; `echo`: what it writes on stderr is passed on.

    engine: what pipeline.Models is made with. environment: variables the worker gets beside those of this process.
    """

    def __init__(self, engine: Mapping[str, Any], tell: Callable[[Event], None], *, echo: bool = False,
                 environment: Mapping[str, str] | None = None, command: Sequence[str] | None = None):  # fmt: skip
        self._first = {"engine": dict(engine), "debug": echo}
        self._tell, self._echo, self._environment = tell, echo, dict(environment or {})
        self._command = list(command or (sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path)))
        self._process: subprocess.Popen[bytes] | None = None
        self._selector: DefaultSelector | None = None
        self._buffer, self._words = bytearray(), b""

    def do(self, job: Event, timeout: float | None) -> Outcome:
        """Give the worker a job and wait for its end; a worker is started where there is none.

        Raises:
            MambamiaError: what every job would meet, such as a model without weights.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        began = time.monotonic()
        outcome = self._done(job, timeout)
        return replace(outcome, seconds=time.monotonic() - began)

    def _done(self, job: Event, timeout: float | None) -> Outcome:
        try:
            self._send(job)
            event = self._wait(("done", "failed", "refused"), timeout)
        except TimeoutError:
            self.close()
            return Outcome(error=TimedOutError.after(timeout or START_SECONDS, job["video"]))
        if event is None:
            return Outcome(error=self._died())
        if event["event"] == "done":
            return Outcome(tuple(event["records"]))
        problem = MambamiaError.from_reason(event["reason"])
        if event["event"] == "refused":
            raise problem
        if problem.error_class in SPOILING:
            self.close()
        return Outcome(error=problem)

    def close(self) -> None:
        """Kill the worker and what it started. It holds nothing that is to be kept."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if self._selector is not None:
            self._selector.close()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _start(self) -> None:
        problem: MambamiaError = CrashError("the worker did not start")
        for attempt in range(START_TRIES):
            time.sleep(START_PAUSE * attempt)
            self._launch()
            try:
                event = self._wait(("ready", "refused"), START_SECONDS)
            except TimeoutError:
                self.close()
                problem = TimedOutError.after(START_SECONDS, "the start of the worker")
                continue
            if event is None:
                problem = self._died()
            elif event["event"] == "ready":
                return
            else:
                raise MambamiaError.from_reason(event["reason"])
        raise problem

    def _launch(self) -> None:
        self.close()
        self._buffer, self._words = bytearray(), b""
        # In a session of its own: Ctrl-C of the terminal is for the supervisor, and what the worker starts can be killed with it.
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                         env={**os.environ, **self._environment}, start_new_session=True)  # fmt: skip
        self._selector = DefaultSelector()
        for pipe in (self._process.stdout, self._process.stderr):
            os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]
            self._selector.register(pipe, EVENT_READ)  # type: ignore[arg-type]
        self._send(self._first)

    def _send(self, message: Event) -> None:
        with suppress(BrokenPipeError):  # it died: the end of its events says so
            self._process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _wait(self, ends: tuple[str, ...], limit: float | None) -> Event | None:
        """The first event that is one of `ends`; those before it are passed on. None: the worker died.

        Loading weights happens once and is not the job's time: the clock stands meanwhile.

        Raises:
            TimeoutError: `limit` seconds are over.
        """
        left, loading, since = limit, False, time.monotonic()
        while True:
            allowed = START_SECONDS if loading and limit is not None else left
            over = None if allowed is None else since + allowed - time.monotonic()
            if over is not None and over <= 0:
                raise TimeoutError
            for event in self._arrived(over):
                if event is None or event["event"] in ends:
                    return event
                now = time.monotonic()
                if left is not None and not loading:
                    left -= now - since
                since, loading = now, event.get("loading", False)
                self._tell(event)

    def _arrived(self, patience: float | None) -> Iterator[Event | None]:
        """The events that came in one reading, at most `patience` seconds from now on; None for the end of all."""
        for chosen, _ in self._selector.select(patience):  # type: ignore[union-attr]
            data = os.read(chosen.fd, 1 << 20)
            if chosen.fileobj is self._process.stderr:  # type: ignore[union-attr]
                self._hear(data, chosen.fileobj)
                continue
            self._buffer += data
            if b"\n" in data:
                *lines, rest = self._buffer.split(b"\n")
                self._buffer = bytearray(rest)
                yield from filter(None, map(_event, lines))
            if not data:
                yield None

    def _hear(self, data: bytes, pipe: Any) -> None:
        """What libraries print. With --debug it is told; else its end may explain a crash."""
        if not data:
            self._selector.unregister(pipe)  # type: ignore[union-attr]
        self._words = (self._words + data)[-LAST_WORDS:]
        if self._echo:
            sys.stderr.buffer.write(data)
            sys.stderr.flush()

    def _died(self) -> MambamiaError:
        """Why the events ended."""
        process = self._process
        try:
            code = process.wait(START_PAUSE)  # type: ignore[union-attr]
        except subprocess.TimeoutExpired:  # it closed its pipe and lives: of no use
            code = None
        with suppress(BlockingIOError):
            self._words += os.read(process.stderr.fileno(), LAST_WORDS)  # type: ignore[union-attr]
        self.close()
        if code == -signal.SIGKILL:
            return OutOfMemoryError("the worker was killed, most likely because memory ran out",
                                    "lower --max-frames or --token-budget, or leave the machine more memory")  # fmt: skip
        words = self._words.decode("utf-8", "replace").split("\n")
        said = next((f", its last words: {line.strip()[:200]}" for line in reversed(words) if line.strip()), "")
        return CrashError(f"the worker crashed ({_ending(code)}{said})", "check that the video plays, or convert it")


def _ending(code: int | None) -> str:
    """How a process ended; None: it did not, but closed its pipe."""
    if code is None or code >= 0:
        return "it closed its pipe" if code is None else f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal
        return f"signal {-code}"


def _event(line: bytes) -> Event | None:
    """A line of the worker's; None for what else was printed before it had its pipe to itself."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
