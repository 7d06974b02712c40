"""Instruction data in LLaVA's format, read as it comes: JSON arrays and JSON lines, images and videos, with holes in it.

A row is {"id", "conversations": [{"from": "human"|"gpt", "value"}, ...]} with "image" or "video" (a path under the media
folder; "image" may be a list) or with neither. `<image>` and `<video>` in a value stand for the medium, whatever its
kind: LLaVA-Video-178K writes `<image>` for videos. Published files have rows whose media are missing, cut short or not
what they claim; such a row is an `Unusable`, which is counted, never a stop.
"""

import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from mambamia_cli.errors import InputError, MambamiaError, UsageError

REASONS = ("missing", "broken", "unusable", "too long")
KINDS = ("image", "video", "text")
_MARK = re.compile(r"<(?:image|video)>")
_SPEAKERS = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt", "system": "system"}


class Unusable(Exception):
    """A row that cannot be trained on; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Conversation:
    """A row, checked. `turns`: (question, answer) pairs without media marks; `media`: paths as the row has them."""

    id: str
    kind: str
    media: tuple[str, ...]
    turns: tuple[tuple[str, str], ...]
    system: str | None = None


class Rows:
    """The rows of several files as one sequence. Only their places are held in memory (16 bytes a row)."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = [Path(p) for p in paths]
        self._spans: list[array] = []
        for path in self.paths:
            try:
                self._spans.append(_spans(path))
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror}", "name JSON or JSON lines files with --data") from None
        self._ends = np.cumsum([len(spans) // 2 for spans in self._spans])
        if not len(self):
            raise UsageError(f"{self.paths[0] if self.paths else 'the data'} holds no rows", "give LLaVA-format JSON or JSON lines")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Conversation:
        """Raises Unusable for a row that is no conversation."""
        file = int(np.searchsorted(self._ends, index, side="right"))
        at = 2 * (index - int(self._ends[file - 1] if file else 0))
        begin, end = self._spans[file][at], self._spans[file][at + 1]
        with open(self.paths[file], "rb") as source:
            source.seek(begin)
            raw = source.read(end - begin)
        try:
            return conversation(json.loads(raw))
        except ValueError as error:
            raise Unusable("unusable", f"not JSON: {error}") from None


def _spans(path: Path) -> array:
    """Where each row begins and ends, in bytes: [begin, end, begin, end, ...]."""
    spans = array("Q")
    with open(path, "rb") as file:
        head = file.read(64)
        if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"[":
            file.seek(0)
            begin = 0
            for line in file:
                if line.strip():
                    spans.extend((begin, begin + len(line)))
                begin += len(line)
            return spans
        file.seek(0)
        # One byte a character, so that places in the text are places in the file. What JSON is made of is ASCII.
        text = file.read().decode("latin-1")
    scan, at = json.JSONDecoder().raw_decode, text.index("[") + 1
    gap = re.compile(r"[\s,]*")
    while True:
        at = gap.match(text, at).end()
        if text[at : at + 1] == "]":
            return spans
        try:
            _, end = scan(text, at)
        except ValueError:
            raise UsageError(f"{path} is not valid JSON after row {len(spans) // 2} (byte {at})", "get the file again") from None
        spans.extend((at, end))
        at = end


def conversation(row: object) -> Conversation:
    """A parsed row, checked. Raises Unusable when a part is missing or the turns do not alternate."""
    if not isinstance(row, dict):
        raise Unusable("unusable", "a row is not an object")
    said = row.get("conversations")
    if not isinstance(said, list) or not all(isinstance(turn, dict) and isinstance(turn.get("value"), str) for turn in said):
        raise Unusable("unusable", "conversations is not a list of turns")
    speakers = [_SPEAKERS.get(turn.get("from"), "") for turn in said]
    values = [_MARK.sub("", turn["value"]).strip() for turn in said]
    system = None
    if speakers[:1] == ["system"]:
        system, speakers, values = values[0], speakers[1:], values[1:]
    if len(values) % 2:  # a question that nobody answered
        speakers, values = speakers[:-1], values[:-1]
    if not values or speakers != ["human", "gpt"] * (len(values) // 2):
        raise Unusable("unusable", "human and gpt do not take turns")
    turns = tuple(zip(values[::2], values[1::2], strict=True))
    if not all(answer for _, answer in turns):
        raise Unusable("unusable", "an answer is empty")
    kind, media = _media(row)
    return Conversation(str(row.get("id", "")), kind, media, turns, system)


def _media(row: dict) -> tuple[str, tuple[str, ...]]:
    for kind in ("video", "image"):
        value = row.get(kind)
        paths = value if isinstance(value, list) else [value] if value else []
        if paths:
            if not all(isinstance(path, str) and path for path in paths) or (kind == "video" and len(paths) > 1):
                raise Unusable("unusable", f"{kind} is not a path")
            return kind, tuple(paths)
    return "text", ()


@dataclass(frozen=True)
class Footage:
    """Frames (m, H, W, 3) uint8 RGB and their times in seconds; m = 0 for a conversation without a medium."""

    frames: np.ndarray
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Reader:
    """Reads a conversation's media as `ask` would: a video by `fps`, thinned evenly to `most` frames; pictures one a second."""

    folder: Path
    size: tuple[int, int]
    fps: Fraction
    most: int

    def read(self, row: Conversation) -> Footage:
        """Raises Unusable when a file is missing or holds nothing that decodes."""
        paths = [self.folder / path for path in row.media]
        for path in paths:
            if not path.is_file():
                raise Unusable("missing", f"{path} is missing")
        try:
            if row.kind == "video":
                return self._video(paths[0])
            pictures = [self._picture(path) for path in paths[: self.most]]
        except MambamiaError as error:
            raise Unusable("broken", str(error)) from error
        except Exception as error:  # a damaged file can raise whatever its decoder likes; one row must not end a run
            raise Unusable("broken", f"{paths[0]}: {type(error).__name__}: {error}") from error
        frames = np.stack(pictures) if pictures else np.zeros((0, *self.size, 3), np.uint8)
        return Footage(frames, tuple(float(i) for i in range(len(frames))))

    def _video(self, path: Path) -> Footage:
        from mambamia_cli.video import SampleSpec, open_frames

        parts, times = [], []
        with open_frames(path, SampleSpec(fps=self.fps, max_frames=self.most, size=self.size)) as stream:
            for chunk in stream:
                parts.append(chunk.frames.copy())  # (m', H, W, 3); the decoder uses its buffer again
                times += chunk.times
        if not parts:
            raise InputError(f"{path} has no frame that can be decoded")
        return Footage(np.concatenate(parts), tuple(float(t) for t in times))

    def _picture(self, path: Path) -> np.ndarray:
        """-> (H, W, 3) uint8, upright."""
        from PIL import Image, ImageOps

        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(image.resize(self.size[::-1], Image.Resampling.BILINEAR))
