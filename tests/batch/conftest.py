"""What the tests of batch share: the command line, a worker that behaves as the video's name says, and a list of jobs as a file."""

import json
import sys
from pathlib import Path

import pytest
from fixtures import fake_worker, videos
from fixtures.command import mambamia, spawn

from mambamia_cli.batch.keeper import Keeper

__all__ = ["mambamia", "spawn"]


@pytest.fixture
def heard():
    """The events that a keeper passed on."""
    return []


@pytest.fixture
def keeper(heard, monkeypatch):
    """A keeper of workers that do what the video's name says (fixtures/fake_worker.py)."""
    monkeypatch.setattr("mambamia_cli.batch.keeper.START_PAUSE", 0.05)
    made = Keeper({"model": "none"}, heard.append, command=[sys.executable, "-S", fake_worker.__file__])
    yield made
    made.close()


@pytest.fixture
def jobs_file(tmp_path):
    """jobs_file({"video": ...}, ...) -> the path of a JOBS file."""

    def write(*jobs: dict, name: str = "jobs.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(job, default=str) + "\n" for job in jobs))
        return path

    return write


@pytest.fixture(scope="session")
def short_video(made):
    """Two seconds, quickly looked at."""
    path = made / "short.mp4"
    if not path.exists():
        videos.write_video(path, ((videos.RED, 1), (videos.GREEN, 1)), size=(48, 64), textured=True)
    return path


@pytest.fixture(scope="session")
def long_video(made):
    """Two minutes, which take many seconds to look at at 25 frames a second."""
    path = made / "long-batch.mp4"
    if not path.exists():
        videos.write_video(path, ((videos.RED, 60), (videos.GREEN, 60)), size=(48, 64))
    return path


def records(path: Path) -> list[dict]:
    """The lines of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
