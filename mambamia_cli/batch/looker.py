"""Jobs -> records, through the hall. The last video stays open, so that jobs in a row about it share one look."""

import json
from collections.abc import Callable
from typing import Any

from mambamia_cli.batch.keys import identity
from mambamia_cli.errors import DownloadError, MambamiaError
from mambamia_cli.pipeline import Models, Video, open_video
from mambamia_cli.pipeline.engine import Progress
from mambamia_cli.records import MOST_RANGES, best, to_dict
from mambamia_cli.video.source import check_source

_LOOK = ("fps", "start", "end", "max_frames", "video_track", "token_budget")
"""The settings a video is opened with."""


class Looker:
    """Does one job after the other with the same models."""

    def __init__(self, models: Models, progress: Progress, warn: Callable[[str], None]):
        self.models, self._progress, self._warn = models, progress, warn
        self._video: Video | None = None
        self._known = ""
        self._open = False

    def records(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """The records that the single command writes as JSON lines.

        Raises:
            MambamiaError: of the class that fits.
        """
        self._open = False
        video = self._opened(job)
        self._open = True
        return [to_dict(record) for record in _COMMANDS[job["cmd"]](video, job)]

    def forget(self) -> None:
        """Close the video: its memory goes, and nothing half done is gone on with."""
        self._video = None

    def lacks_model(self, error: MambamiaError) -> bool:
        """Whether an error of the last job says that weights could not be fetched: by then, the video itself was here."""
        return self._open and isinstance(error, DownloadError)

    def _opened(self, job: dict[str, Any]) -> Video:
        check_source(job["video"])
        # Looks that keep an eye on every frame decode a little otherwise (video.container.Decoder.smooth). A result must not
        # depend on which job came before, so that they are not shared with those that do not.
        closely = job["cmd"] == "summarize" or (job["cmd"] == "scenes" and job.get("refine", True))
        known = json.dumps([job["video"], identity(job["video"]), closely, [job.get(name) for name in _LOOK]])
        if self._video is not None and known == self._known:
            self._video.renew_plan()
            return self._video
        self._video = None  # its memory goes before the next one's comes
        self._video, self._known = self._open_video(job), known
        return self._video

    def _open_video(self, job: dict[str, Any]) -> Video:
        # A rate that was not given is left unset: each use of the video then has its own default.
        rate = {} if "fps" not in job else {"fps": None if job["fps"] == "all" else job["fps"]}
        return open_video(job["video"], models=self.models, **rate, max_frames=job.get("max_frames"), start=job.get("start"), end=job.get("end"),
                          token_budget=job.get("token_budget"), stream=job.get("video_track"),
                          progress=self._progress, warn=self._warn)  # fmt: skip


def _given(job: dict[str, Any], *names: str) -> dict[str, Any]:
    """Settings that the job has, for a method that has defaults for the rest."""
    return {name: job[name] for name in names if name in job}


def _ask(video: Video, job: dict[str, Any]) -> list[Any]:
    questions, given = job["questions"], _given(job, "max_tokens")
    video.prepare(question=max(questions, key=len), **given)
    return [video.ask(question, choices=job.get("choices"), **given) for question in questions]


def _scenes(video: Video, job: dict[str, Any]) -> list[Any]:
    return [video.scenes(**_given(job, "threshold", "min_scene_len", "level", "refine"))]


def _summarize(video: Video, job: dict[str, Any]) -> list[Any]:
    return [video.summarize(**_given(job, "threshold", "min_scene_len", "max_tokens"))]


def _find(video: Video, job: dict[str, Any]) -> list[Any]:
    return [best(video.find(*job["queries"]), MOST_RANGES)]


_COMMANDS = {"ask": _ask, "scenes": _scenes, "summarize": _summarize, "find": _find}
