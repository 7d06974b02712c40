"""One class an exit code. Every error the user can cause is one sentence with its remedy.

The exit codes are part of the command's interface: scripts branch on them, so they never change meaning.
"""


class MambamiaError(Exception):
    """An error with a remedy. `message` says what is wrong, `hint` what to do; together they are one sentence."""

    exit_code = 1
    error_class = "internal"

    def __init__(self, message: str, hint: str = ""):
        self.message = message.rstrip(".")
        self.hint = hint.rstrip(".")
        super().__init__(f"{self.message}; {self.hint}" if self.hint else self.message)

    @property
    def reason(self) -> dict[str, str]:
        """What records say of it."""
        return {"class": self.error_class, "message": self.message, "hint": self.hint}

    @staticmethod
    def from_reason(reason: dict[str, str]) -> "MambamiaError":
        """The error that another process told of."""
        kinds = {kind.error_class: kind for kind in MambamiaError.__subclasses__()}
        return kinds.get(reason["class"], MambamiaError)(reason["message"], reason["hint"])


class UsageError(MambamiaError):
    """Bad options, questions or configuration: found before anything is decoded or loaded."""

    exit_code = 2
    error_class = "usage"


class InputError(MambamiaError):
    """The video is missing, unreadable, or holds nothing that can be decoded."""

    exit_code = 3
    error_class = "input"


class DownloadError(MambamiaError):
    """A URL could not be fetched."""

    exit_code = 4
    error_class = "download"


class ModelError(MambamiaError):
    """A model or its weights are missing, damaged or of the wrong shape."""

    exit_code = 5
    error_class = "model"


class OutOfMemoryError(MambamiaError):
    """Memory ran out and backing off did not help."""

    exit_code = 6
    error_class = "memory"


class TimedOutError(MambamiaError):
    """A video took longer than `--timeout` allows."""

    exit_code = 124
    error_class = "timeout"

    @classmethod
    def after(cls, seconds: float, source: str) -> "TimedOutError":
        """`source` was given up."""
        return cls(f"{source} took longer than {seconds:g} s", "raise --timeout or look at less of it")


class CrashError(MambamiaError):
    """The process that worked on a job of `batch` died of it."""

    error_class = "crash"


class OutputError(MambamiaError):
    """A result could not be written: the folder is missing, read-only or full."""

    exit_code = 2
    error_class = "output"


EXIT_SOME_FAILED = 1
"""Several inputs, and at least one of them failed. One input alone gives its own class's code."""

EXIT_STOPPED_EARLY = 101
"""--max-failures was reached and work was left undone."""

EXIT_INTERRUPTED = 130
"""Ctrl-C (128 + SIGINT)."""

EXIT_TERMINATED = 143
"""SIGTERM (128 + SIGTERM)."""
