"""stdout or a file: where results go, and nothing else goes there.

A file appears whole or not at all: results go to a temporary file beside it, which is synced and renamed at the end.
When a run stops early (Ctrl-C, a full disk), finished records are kept and a half-written one is cut off.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TextIO

from mambamia_cli.errors import OutputError

UNENCODABLE = "backslashreplace"
"""A file name that is not UTF-8 prints as \\udcXX, which in JSON is the very escape that it needs."""


class ReaderGone(Exception):
    """The reader of stdout closed the pipe; it wants no more, so the run ends quietly."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        OutputError: the folder is missing, read-only or full.
    """
    with Output(str(path)) as out:
        out.write_bytes(data)
        out.finish_record()


class _Sink:
    """A binary file that remembers what went wrong with it: libav calls it from C and may pass on another error, or none."""

    def __init__(self, file: BinaryIO):
        self._file, self.done = file, False  # done: all was written and only the end is to come
        self.problem: BaseException | None = None

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except BaseException as problem:
            self.problem = self.problem or problem
            raise


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A seekable file to write. It appears at the end of the block, synced; if the block fails, nothing of it is left.

    Raises:
        OutputError: it cannot be made, written or put in place.
    """
    output = Output(str(path))
    output.check()
    if output.path is None or output._is_device():
        raise OutputError(f"cannot write {path}: it is not a regular file", "give the name of a file")
    temporary, file, sink = output._beside("part"), None, None
    try:  # around open(), too: an interrupt that comes while the system makes the file is raised before it has a name here
        file = open(temporary, "wb+")  # noqa: SIM115  (closed below)
        sink = _Sink(file)
        try:
            yield sink  # type: ignore[misc]
        except Exception:
            if sink.problem is None:
                raise
        if sink.problem is not None:
            raise sink.problem
        sink.done = True
        file.flush()
        os.fsync(file.fileno())
        file.close()
        os.replace(temporary, output.path)
    except OSError as error:
        if sink is None or error is sink.problem or sink.done:
            raise output._refuse(error) from error
        raise
    finally:
        with suppress(OSError):
            if file is not None:
                file.close()
        temporary.unlink(missing_ok=True)


class Output:
    """The sink of one run. Use as a context manager; call `finish_record` after each whole result."""

    def __init__(self, path: str | None):
        self.path = None if path in (None, "-") else Path(os.path.realpath(path))
        self._shown = path
        self._file: TextIO | None = None
        self._temporary: Path | None = None
        self._good = 0  # bytes of finished records

    def check(self) -> None:
        """Prove before any work that the file can be written, by making and removing one beside it.

        Raises:
            OutputError: no such folder, a folder in the file's place, no permission, no space.
        """
        if self.path is None:
            return
        if self.path.is_dir():
            raise OutputError(f"cannot write {self._shown}: it is a folder", "give -o the name of a file")
        if not self.path.parent.is_dir():
            raise OutputError(f"cannot write {self._shown}: its folder does not exist", "make the folder first")
        if self._is_device():
            return
        probe = self._beside("check")
        try:
            with open(probe, "xb"):
                pass
        except OSError as error:
            raise self._refuse(error) from error
        finally:
            probe.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        if self.path is None:
            return self
        try:
            if self._is_device():
                # A device or a pipe is written in place: renaming a file over /dev/null would destroy it.
                self._file = open(self.path, "w", encoding="utf-8", errors=UNENCODABLE)
            else:
                self._temporary = self._beside("part")
                self._file = open(self._temporary, "w", encoding="utf-8", errors=UNENCODABLE)
        except OSError as error:
            raise self._refuse(error) from error
        except BaseException:  # an interrupt while the system made the file: `__exit__` is not called then
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)
            raise
        return self

    def write(self, text: str) -> None:
        """Write text, flushed at once."""
        try:
            target = self._file or sys.stdout
            target.write(text)
            target.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            raise self._refuse(error) from error

    def write_bytes(self, data: bytes) -> None:
        assert self._file is not None, "bytes go to files only"
        try:
            self._file.buffer.write(data)  # type: ignore[attr-defined]
            self._file.flush()
        except OSError as error:
            raise self._refuse(error) from error

    def finish_record(self) -> None:
        """What was written so far is whole and is kept whatever happens next."""
        if self._temporary is not None and self._file is not None:
            self._good = os.fstat(self._file.fileno()).st_size

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is None:
            return
        try:
            if self._temporary is not None and self._good:
                self._file.flush()
                os.ftruncate(self._file.fileno(), self._good)
                os.fsync(self._file.fileno())
                self._file.close()
                os.replace(self._temporary, self.path)  # type: ignore[arg-type]
            else:
                self._file.close()
        except OSError as problem:
            if kind is None:
                raise self._refuse(problem) from problem
        finally:
            try:
                self._file.close()
            except OSError:
                pass  # the buffer could not be flushed: reported above or by the write that failed
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)

    def _is_device(self) -> bool:
        try:
            return not stat.S_ISREG(os.stat(self.path).st_mode)  # type: ignore[arg-type]
        except OSError:
            return False

    def _beside(self, what: str) -> Path:
        assert self.path is not None
        return self.path.with_name(f".{self.path.name[:200]}.{os.getpid()}.{what}")

    def _refuse(self, error: OSError) -> OutputError:
        shown = self._shown if self.path is not None else "standard output"
        if error.errno == errno.ENOSPC:
            return OutputError(f"cannot write {shown}: no space left", "free some space or write elsewhere with -o")
        reason = (error.strerror or type(error).__name__).lower()
        return OutputError(f"cannot write {shown}: {reason}", "choose another place with -o")
