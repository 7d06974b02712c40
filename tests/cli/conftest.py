"""Running the command line in a test: in this process (quick) or in one of its own (real streams and signals)."""

import subprocess
import sys
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def one_sentence(self) -> str:
        """The error, checked to be a single line of ours without a traceback."""
        lines = self.err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("mambamia: error: "), self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix("mambamia: error: ")


@pytest.fixture
def mambamia(capfd):
    """mambamia("scenes", "a.mp4", ...) -> Ran, in this process."""
    from mambamia_cli.cli.app import run

    def call(*argv: object) -> Ran:
        capfd.readouterr()
        code = run([str(word) for word in argv])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return call


def command(*argv: object) -> list[str]:
    return [sys.executable, "-m", "mambamia_cli", *map(str, argv)]


@pytest.fixture
def spawn():
    """spawn("scenes", ..., stdout=...) -> Popen of a process of its own; killed at the end if it still runs."""
    started = []

    def start(*argv: object, **options) -> subprocess.Popen:
        defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command(*argv), **{**defaults, **options}))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
