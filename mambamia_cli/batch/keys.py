"""What a job is known by when a run goes on where another stopped, and which of several machines does it."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from mambamia_cli.batch.jobs import Job
from mambamia_cli.video.source import is_url

_LANGUAGE = ("quant", "hear", "frame_size")
_DECIDING = {"ask": _LANGUAGE, "summarize": _LANGUAGE, "find": ("quant",), "scenes": ()}
"""What of the models' settings changes a command's result, beside the model's version and the seed. Not among it is how the result comes
about: device, threads and limits. A run that goes on elsewhere does not begin anew."""


def key_of(job: Job, engine: Mapping[str, Any], version: str) -> str:
    """A hash of command, settings, model and the video's identity. engine: as pipeline.Models takes it; version: models.version's."""
    decided = {name: engine[name] for name in ("seed", *_DECIDING[job.cmd])}
    return _hash([job.cmd, job.settings, decided, version, identity(job.video)])[:24]


def identity(video: str) -> list[Any]:
    """A URL as it is; a file's resolved path, size and time of change. What is not there has its path alone."""
    if is_url(video):
        return [video]
    try:
        path, facts = os.path.realpath(video), os.stat(video)
    except (OSError, ValueError):  # ValueError: a null character
        return [os.path.abspath(video)]
    return [path, facts.st_size, facts.st_mtime_ns]


def shard_of(job: Job, count: int) -> int:
    """Which of `count` shards (from 1 on) does the job: by its id, else by video and command as they are written, so that
    jobs of one video stay together wherever the list is mounted and in whatever order it is."""
    return int(_hash(job.id if job.id is not None else [job.video, job.cmd])[:16], 16) % count + 1


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
