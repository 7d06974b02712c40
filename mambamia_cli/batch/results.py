"""The file of results: a JSON line a job, appended as it finishes and on the disk before the next begins.

A file belongs to one run at a time (flock). What a power cut left of a last line is cut off at the next start. Nothing is ever
rewritten: of several lines of one key the last one counts.
"""

import fcntl
import json
import os
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from mambamia_cli.batch.jobs import Job
from mambamia_cli.errors import OutputError
from mambamia_cli.models.cache import fsync_path
from mambamia_cli.records import JobRecord, to_json
from mambamia_cli.video.source import is_url

SCHEMA = "mambamia.job/1"
_BEGINNING = b'{"schema": "' + SCHEMA.encode()
_ELSEWHERE = "choose another place with -o"


class Results:
    """An open file of results. Use as a context manager.

    Raises:
        OutputError: another run writes it, it holds something else, or it cannot be written.
    """

    def __init__(self, path: str, *, force: bool = False):
        self.path, self.damaged = path, 0
        self._force = force
        self._where: dict[str, int] = {}  # key of what is done -> where its line begins
        self._names: set[tuple[str, str | None, str]] = set()  # (key, id, video as written) of every line that says so
        self._file: Any = None
        self._end = 0

    def __enter__(self) -> Self:
        try:
            if os.path.exists(self.path) and not os.path.isfile(self.path):
                raise OutputError(f"cannot write {self.path}: it is not a regular file", "give -o the name of a file, or leave it out for stdout")
            self._file = open(self.path, "ab+", buffering=0)  # closed in __exit__
            fsync_path(os.path.dirname(os.path.abspath(self.path)))
        except (OSError, ValueError) as error:
            raise self._refused(error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError:
            self._file.close()
            raise OutputError(f"another run is writing {self.path}", "wait for its end, or give this run another -o") from None
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def _read(self) -> None:
        """Learn what is done, and cut off the end of a line that was being written."""
        begin, torn, ours = 0, b"", False
        self._file.seek(0)
        with open(self.path, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    torn = line
                    break
                ours = self._learn(line, begin) or ours
                begin += len(line)
        # A video or a list of jobs that was named by mistake is neither cut nor written to.
        if not ours and (begin or torn) and (begin or not _BEGINNING.startswith(torn[: len(_BEGINNING)])):
            raise OutputError(f"{self.path} is no file of results", _ELSEWHERE)
        if torn:
            os.ftruncate(self._file.fileno(), begin)
        self._end = begin

    def _learn(self, line: bytes, begin: int) -> bool:
        """Whether the line is a record of ours. One that is not was damaged, by a torn end in the middle of merged files for
        instance; its job is not done."""
        try:
            data = json.loads(line)
            ours = data["schema"] == SCHEMA
            key, names, done = data["key"], (data["key"], data.get("id"), data["video"]), data["status"] == "done"
            hash(names)
        except (ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            self.damaged += bool(line.strip())
            return False
        self._note(key, names, begin if done else None)
        return True

    def _note(self, key: str, names: tuple[str, str | None, str], begin: int | None) -> None:
        """A line of the key begins there; None: it says that the job failed."""
        if begin is None:
            self._where.pop(key, None)
            self._names.discard(names)
        else:
            self._where[key] = begin
            self._names.add(names)

    def settled(self, key: str, job: Job) -> bool:
        """Whether there is nothing left to do. What is done under another id or another name of the same file is written once more
        under this one: every job has a line."""
        if self._force or key not in self._where:
            return False
        if (key, job.id, job.video) not in self._names:
            self.write(self._copied(key, job))
        return True

    def _copied(self, key: str, job: Job) -> JobRecord:
        with open(self.path, "rb") as lines:
            lines.seek(self._where[key])
            data = json.loads(lines.readline())
        named = {"source": job.video} if is_url(job.video) else {"source": job.video, "title": os.path.basename(job.video)}
        made = tuple({**record, "video": record["video"] | named} for record in data["records"])
        return JobRecord(**{**data, "id": job.id, "video": job.video, "records": made})

    def write(self, record: JobRecord) -> None:
        """Append a record. It is on the disk when this returns, or nothing of it is in the file."""
        line = (to_json(record) + "\n").encode("utf-8", "backslashreplace")  # of a name that is not UTF-8 that is JSON's own escape
        try:
            left = memoryview(line)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except BaseException as error:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), self._end)
            if isinstance(error, OSError):
                raise self._refused(error) from error
            raise
        self._note(record.key, (record.key, record.id, record.video), self._end if record.status == "done" else None)
        self._end += len(line)

    def _refused(self, error: OSError | ValueError) -> OutputError:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        return OutputError(f"cannot write {self.path}: {reason}", _ELSEWHERE)
