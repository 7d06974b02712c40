"""The process that holds the models. Job lines come in on stdin; events go out as JSON lines:

ready                       weights can be had and the device is there
progress stage done total   how far the job is; with loading true, weights are loaded until the next one: not the job's time
say kind text               a warning or a note
done records                the job's end
failed reason               the job's other end
refused reason              what every job would meet: the run ends

It ends when stdin does: the supervisor is gone, or wants no more.
"""

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from typing import Any

from mambamia_cli.batch.looker import Looker
from mambamia_cli.errors import MambamiaError, ModelError
from mambamia_cli.failures import translate
from mambamia_cli.models.kinds import NATIVE
from mambamia_cli.pipeline import Models
from mambamia_cli.pipeline.engine import LOADING

PROGRESS_SECONDS = 0.2
"""No two events about one stage come closer together."""

_PR_SET_PDEATHSIG = 1


class Voice:
    """The events. Threads that fetch or encode speak, too."""

    def __init__(self, file: Any):
        self._file, self._lock = file, threading.Lock()
        self._stage, self._spoke = "", 0.0

    def send(self, event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, **facts}, allow_nan=False)
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def progress(self, stage: str, done: float, total: float | None) -> None:
        now = time.monotonic()
        if stage == self._stage and now - self._spoke < PROGRESS_SECONDS and done != total:
            return
        self._stage, self._spoke = stage, now
        loading = stage.startswith(LOADING) and total is None
        self.send("progress", stage=stage, done=float(done), total=None if total is None else float(total), loading=loading)

    def warn(self, text: str) -> None:
        self.send("say", kind="warning", text=text)


class _Log(logging.Handler):
    """What the rooms say in the log."""

    def __init__(self, voice: Voice):
        super().__init__()
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        self._voice.send("say", kind="warning" if record.levelno >= logging.WARNING else "note", text=record.getMessage())


def main() -> None:
    """Set the process up, then work until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the supervisor decides
    _die_with_parent()
    voice, lines = _own_streams()
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    settings = json.loads(lines.readline() or "null")
    threading.Thread(target=_receive, args=(lines, jobs), daemon=True).start()
    debug = settings["debug"]
    if not debug:
        warnings.filterwarnings("ignore")
    log = logging.getLogger("mambamia_cli")
    log.addHandler(_Log(voice))
    log.setLevel(logging.INFO)
    looker = _ready(settings["engine"], voice)
    while looker is not None:
        _do(looker, jobs.get(), voice, debug)
    threading.Event().wait()  # refused: the end comes with that of stdin


def _die_with_parent() -> None:
    """Linux kills this process when the supervisor dies, even if a library hangs and lets no other thread see that stdin ended."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_streams() -> tuple[Voice, Any]:
    """Events and jobs on descriptors that nobody else knows: what a library prints goes to stderr, what it would read is empty."""
    events, lines = os.fdopen(os.dup(1), "w", encoding="utf-8"), os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    events.write("\n")  # ends what was printed until here
    return Voice(events), lines


def _receive(lines: Any, jobs: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in lines:
        jobs.put(json.loads(line))
    os._exit(0)  # in the middle of a job or not


def _ready(engine: dict[str, Any], voice: Voice) -> Looker | None:
    """The models, as far as every job needs them; None where they cannot be had."""
    try:
        models = Models(**engine, progress=voice.progress)
        _ = models.device, models.limits
        if models.kind.kind != NATIVE:
            _ = models.path  # gigabytes are fetched here, in no job's time
    except Exception as error:  # noqa: BLE001  (every error becomes a sentence)
        voice.send("refused", reason=translate(error).reason)
        return None
    voice.send("ready")
    return Looker(models, voice.progress, voice.warn)


def _do(looker: Looker, job: dict[str, Any], voice: Voice, debug: bool) -> None:
    try:
        voice.send("done", records=looker.records(job))
    except Exception as error:  # noqa: BLE001  (every error becomes a sentence)
        if debug:
            traceback.print_exc()
        looker.forget()
        problem: MambamiaError = translate(error)
        hopeless = isinstance(problem, ModelError) or looker.lacks_model(problem)
        voice.send("refused" if hopeless else "failed", reason=problem.reason)
