"""A video opened for questions. The same records as the command line's."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import Any, overload

from mambamia_cli.errors import UsageError
from mambamia_cli.language.prompt import with_options
from mambamia_cli.language.unimambamia.config import FRAMES as RELATIVE_FRAMES
from mambamia_cli.language.unimambamia.config import RATE as RELATIVE_RATE
from mambamia_cli.models.kinds import UNIMAMBAMIA
from mambamia_cli.pipeline import account, sightings, summary
from mambamia_cli.pipeline.ahead import Ahead, cores, reading
from mambamia_cli.pipeline.asking import Asking
from mambamia_cli.pipeline.candidates import candidates_of
from mambamia_cli.pipeline.engine import Models, Progress
from mambamia_cli.pipeline.index import Index, glance, watch
from mambamia_cli.pipeline.ordering import Named
from mambamia_cli.pipeline.relook import SecondLook
from mambamia_cli.plan.estimate import WINDOWS, Settings, Task
from mambamia_cli.plan.frames import ASK_RATE, SCENES_RATE, asking_rate, frame_count
from mambamia_cli.plan.limits import settle
from mambamia_cli.records import (
    LEVELS,
    AnswerRecord,
    Candidate,
    FindRecord,
    Scene,
    ScenesRecord,
    Sighting,
    SummaryRecord,
    ToolRecord,
    peak_memory_mib,
)
from mambamia_cli.scenes import marking

Time = int | float | str | Fraction

CLOSE_RATE = 2
"""Frames a second looked at from which on every frame is decoded in the same go: fewer, and going back to the markers is cheaper."""

_UNKNOWN_LENGTH = Fraction(3600)
"""Seconds that a video is planned for which does not say how long it is."""

_UNSET: Any = object()


def open_video(
    source: str | Path,
    *,
    model: str = "mambamia-tiny",
    device: str = "auto",
    quant: str = "auto",
    fps: Time | None = _UNSET,
    max_frames: int | None = None,
    start: Time | None = None,
    end: Time | None = None,
    token_budget: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    stream: int | None = None,
    vram_limit: str | None = None,
    ram_limit: str | None = None,
    hear: bool = True,
    allow_pickle: bool = False,
    frame_size: int | None = None,
    models: Models | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> "Video":
    """Open a file or URL. It is probed here (a URL is fetched into the cache); weights are loaded when first needed.

    Args:
        fps: frames a second to look at; None = every frame. Unset: 4, for `ask` and `find` fewer (down to 1) from ten
            minutes on.
        max_frames: look at no more frames than this, spread evenly.
        start, end: seconds from the first frame, or text such as "1:35".
        token_budget: visual tokens the language model may see. None = the model's.
        vram_limit, ram_limit: sizes such as "8GiB" to stay within; None = what the device and the machine have free.
        hear: let a model that can hear have the sound.
        allow_pickle: read weights of a foreign model that are pickles; nothing in them is run.
        frame_size: pixels of a frame's longer side as an image-text-to-text model is shown it; None = what suits its family.
        models: models shared with other videos; `model`, `device`, `quant`, `seed`, `threads` and the limits are theirs then.
        progress, warn: called with (stage, done, total) and with one sentence.

    Raises:
        MambamiaError: its class says whether the usage, the input, the download or the model is at fault.
    """
    from mambamia_cli.video import SampleSpec, fetch, is_url
    from mambamia_cli.video.probe import probe

    say = progress or (lambda stage, done, total: None)
    if token_budget is not None and token_budget < 1:
        raise UsageError("the token budget is below one token", "give at least one frame's")
    spec = SampleSpec(fps=ASK_RATE if fps is _UNSET else None if fps is None else Fraction(fps), max_frames=max_frames,
                      start=_seconds(start), end=_seconds(end), stream=stream)  # fmt: skip
    if is_url(str(source)):
        from mambamia_cli.models import cache_dir

        path = fetch(str(source), cache_dir() / "videos", progress=lambda done, total: say("downloading", done, total))
    else:
        path = Path(source)
    probe(path, stream=stream)
    shared = models or Models(model, device=device, quant=quant, threads=threads, seed=seed, progress=say, vram_limit=vram_limit,
                              ram_limit=ram_limit, hear=hear, allow_pickle=allow_pickle, frame_size=frame_size)  # fmt: skip
    return Video(str(source), path, spec, shared, default_rate=fps is _UNSET, token_budget=token_budget, progress=say, warn=warn)


def _seconds(moment: Time | None) -> Fraction | None:
    from mambamia_cli.video.timespec import parse_time

    if moment is None or isinstance(moment, (int, float, Fraction)):
        return None if moment is None else Fraction(moment)
    return parse_time(moment)


class Video:
    """A video that can be asked, marked and summarised. It is looked at once for each sampling rate that is needed."""

    def __init__(self, source: str, path: Path, spec: Any, models: Models, *, default_rate: bool, token_budget: int | None,
                 progress: Progress, warn: Callable[[str], None] | None):  # fmt: skip
        self.source, self.path, self.models, self.token_budget = source, path, models, token_budget
        self._spec, self._default_rate, self._progress = spec, default_rate, progress
        self._warn = warn or (lambda text: None)
        self._indexes: dict[Any, Index] = {}
        self._seconds: dict[int, SecondLook] = {}
        self._named: dict[int, tuple[Named, ...]] = {}
        self._planned_for: set[bool] = set()
        self._ahead: Ahead | None = None

    def index(self, *, default_rate: Fraction = ASK_RATE, anchors: bool = True, closely: bool = False) -> Index:
        """Look at the video, unless that was done at this rate already; closely, if its scenes will be refined.

        Raises:
            InputError: nothing in it can be decoded.
        """
        rate, closely = self._rate(default_rate, closely)
        known = self._indexes.get(rate)
        if known is None or (anchors and known.anchors is None):
            self.models.enter("watch")  # not for what is known: the language model would leave for nothing
            encoder, _ = self.models.lookers(keep_anchors=anchors, closely=closely)
            spec = replace(self._spec, fps=rate, size=tuple(encoder.input_size))
            known = watch(self.path, spec, self.models, keep_anchors=anchors, closely=closely, ahead=self._ahead, progress=self._progress)
            self._indexes[rate] = known
        for text in self._doubts(known):
            self._warn(text)
        return known

    @overload
    def ask(self, question: str, /, *, choices: Sequence[str] | None = None, max_tokens: int = 128,
            on_text: Callable[[str], None] | None = None, by: str = "blend", selection: str = "delta") -> AnswerRecord: ...  # fmt: skip
    @overload
    def ask(self, first: str, second: str, /, *more: str, choices: Sequence[str] | None = None, max_tokens: int = 128,
            on_text: Callable[[str], None] | None = None, by: str = "blend", selection: str = "delta") -> list[AnswerRecord]: ...  # fmt: skip
    def ask(self, *questions: str, choices: Sequence[str] | None = None, max_tokens: int = 128,
            on_text: Callable[[str], None] | None = None, by: str = "blend",
            selection: str = "delta") -> AnswerRecord | list[AnswerRecord]:  # fmt: skip
        """Answer one question (a record) or several (a list). `on_text` gets the answer piece by piece as it is made.

        With `choices` the answer is the likeliest of them, and the record has the probability of each among them. What
        frames match the question's words counts beside the language model (`by`: "blend", or "language" or "evidence"
        alone), and alone says when a thing appears and whether it is there.

        Raises:
            UsageError: no question, an empty one, or a token budget below one frame.
        """
        if not questions or not all(question.strip() for question in questions):
            raise UsageError("a question is empty", "ask something, such as 'what happens in the video?'")
        with self._reading_ahead(self._asking_rate()) if self._looks else nullcontext():
            self.prepare(question=max((*questions, *(with_options(q, choices or ()) for q in questions)), key=len), max_tokens=max_tokens)
            index = self._look()
        self.models.enter("answer")
        second = self._second(index)
        names = partial(self._names, index, second) if second is not None and self.models.has_lexicon else None
        asking = Asking(index, self.models, self._budget, max_tokens, by, selection, second, names)
        records = [self._answer(asking, question, choices, on_text) for question in questions]
        return records[0] if len(records) == 1 else records

    def scenes(self, *, threshold: float | None = None, min_scene_len: float = 0.6, refine: bool = True, level: str = "shot") -> ScenesRecord:
        """Mark the scenes.

        Args:
            threshold: score of a marker; None = the model's.
            min_scene_len: seconds; no scene is shorter.
            refine: look again at every frame around the markers; else they stand at sampled frames, by delta alone.
            level: "shot" (every cut), "scene" or "chapter": see scenes.levels.

        Raises:
            UsageError: no such level.
        """
        if level not in LEVELS:
            raise UsageError(f"there is no level {level}", f"use one of {', '.join(LEVELS)}")
        with self._reading_ahead(SCENES_RATE, closely=refine):
            self.prepare(answers=False, rate=SCENES_RATE)
            index = self.index(default_rate=SCENES_RATE, anchors=False, closely=refine)
        began = time.perf_counter()
        wanted = self.models.rule.threshold if threshold is None else threshold
        candidates, lowest = self._candidates(index, wanted, refine=refine)
        refined = time.perf_counter() - began if refine else None
        found = marking.scenes_of(candidates, threshold=wanted, min_scene_len=min_scene_len, start=float(index.times[0]), end=index.range[1],
                                  level=level)  # fmt: skip
        return ScenesRecord(
            scenes=found, delta=tuple((float(t), float(value)) for t, value in zip(index.times, index.delta, strict=True)),
            threshold=wanted, level=None if level == "shot" else level, min_scene_len=min_scene_len,
            candidates=candidates, candidates_from=lowest, warnings=tuple(self._doubts(index)),
            **self._told(index, began, tool=account.tool_record(self.models, language=False), refine=refined),
        )  # fmt: skip

    def summarize(self, *, threshold: float | None = None, min_scene_len: float = 2.0, max_tokens: int = 128) -> SummaryRecord:
        """A title a scene, then a paragraph. A model with a lexicon names what is recognised; another writes each title from that
        scene's kept frames alone, and the paragraph from all kept frames and the titles. Times are those of frames; what a
        model writes of times is not read."""
        with self._reading_ahead(SCENES_RATE, closely=True):
            self.prepare(question=summary.LONGEST_QUESTION, max_tokens=max_tokens, rate=SCENES_RATE)
            index = self.index(default_rate=SCENES_RATE, closely=True)
        self.models.enter("answer")
        began, found = time.perf_counter(), self._mark(index, threshold, min_scene_len)
        second = self._second(index)
        if second is not None and self.models.has_lexicon:
            titled, text, finish = *summary.listed(self._names(index, second), found), "evidence"
        else:
            titled, text, finish = summary.written(index, self.models, self._budget, found, max_tokens, self._progress)
        return SummaryRecord(
            scenes=tuple(titled), summary=text, finish=finish, warnings=(*self._doubts(index), *self.models.language.warnings),
            **self._told(index, began, tool=account.tool_record(self.models)),
        )  # fmt: skip

    def find(self, *queries: str) -> FindRecord:
        """Where things are seen: time ranges of each query, best first.

        Raises:
            UsageError: no query or an empty one, or a model without a lexicon.
        """
        if not queries or not all(query.strip() for query in queries):
            raise UsageError("there is nothing to find", "name a thing, such as 'guitar'")
        finder = self.models.finder
        if not finder.has_lexicon:
            raise UsageError(f"the model {self.models.name} has no lexicon to find words with", "use mambamia-tiny")
        with self._reading_ahead(self._asking_rate()):
            self.prepare(answers=finder is self.models)
            index = self.index(default_rate=self._asking_rate())
        self.models.enter("answer")
        began = time.perf_counter()
        second = self._second(index)
        seen = [sightings.look_for(index, finder, [query], second) for query in queries]
        return FindRecord(
            found=tuple(Sighting(q, round(float(s.presence[0]), 4), sightings.found(s, finder, 0)) for q, s in zip(queries, seen, strict=True)),
            warnings=tuple(self._doubts(index)), **self._told(index, began, tool=account.tool_record(finder)),
        )  # fmt: skip

    @property
    def _looks(self) -> bool:
        """Whether answers come of a look with delta."""
        return self.models.kind.kind != UNIMAMBAMIA

    def _look(self) -> Index:
        """What there is to answer from: a glance where the answerer takes few frames spread evenly, else a look with delta."""
        if self._looks:
            return self.index(default_rate=self._asking_rate())
        known = self._indexes.get("glance")
        if known is None:
            rate = RELATIVE_RATE if self._default_rate else self._spec.fps or self.info.fps or RELATIVE_RATE
            known = glance(self.info, self._spec, rate=Fraction(rate), most=self._spec.max_frames or RELATIVE_FRAMES)
            self._indexes["glance"] = known
            for text in self._doubts(known):
                self._warn(text)
        return known

    def _second(self, index: Index) -> SecondLook | None:
        """Second looks at what was looked at; None where the encoder has left to make room for the language model."""
        if not self.models.settings.together or index.anchors is None:
            return None
        return self._seconds.setdefault(id(index), SecondLook(index, self.models, self.models.finder))

    def _names(self, index: Index, second: SecondLook) -> tuple[Named, ...]:
        """What is seen in what was looked at, nothing being asked for; found once."""
        from mambamia_cli.pipeline.survey import named

        if id(index) not in self._named:
            self._named[id(index)] = named(index, self.models, second)
        return self._named[id(index)]

    def _rate(self, default_rate: Fraction, closely: bool) -> tuple[Fraction | None, bool]:
        """Frames a second to look at (None: every one), and whether every frame is kept an eye on, where that is wished."""
        rate = default_rate if self._default_rate else self._spec.fps
        return rate, closely and (rate or 0) >= CLOSE_RATE

    @contextmanager
    def _reading_ahead(self, default_rate: Fraction, *, closely: bool = False) -> Iterator[None]:
        """Around `prepare` and `index`: the video is decoded while torch is imported and weights are loaded."""
        rate, closely = self._rate(default_rate, closely)
        size = self.models.picture
        if rate in self._indexes or size is None:
            yield
            return
        spec = replace(self._spec, fps=rate, size=size)
        threads = (self.models.threads or cores()) if self.models.on_cpu else None
        with Ahead(reading(self.path, spec, self.models.settings.chunk, closely=closely, threads=threads)) as self._ahead:
            yield

    def renew_plan(self) -> None:
        """What is asked next is planned for anew, as a video just opened would: what it was planned for may be smaller."""
        self._planned_for.clear()

    def prepare(self, *, question: str = "", max_tokens: int = 128, answers: bool = True, rate: Fraction | None = None) -> None:
        """Plan the run, refuse it if it cannot fit, and load the language model if it may stay. Comes before decoding.

        Raises:
            OutOfMemoryError: the memory there is does not do; the hint names the flag to lower. ModelError: bad weights.
        """
        if self._planned_for >= {answers}:
            return
        self._planned_for.add(answers)
        models, info, rate = self.models, self.info, rate or self._asking_rate()
        span = max((self._spec.end or info.duration or _UNKNOWN_LENGTH) - (self._spec.start or 0), Fraction(1))
        frames = frame_count(span, rate if self._default_rate else self._spec.fps, info.fps, self._spec.max_frames)
        task = Task(frames, float(span), (info.height, info.width), models.device.partition(":")[0], models.quant, max_tokens,
                    self.token_budget, max(60, len(question)), answers, most=self._spec.max_frames)  # fmt: skip
        parts = models.parts_for((info.height, info.width))
        if parts is None:
            settings = Settings(together=models.device == "cpu")
        else:
            settings = settle(parts, task, models.limits)
        models.settings = settings
        if answers and settings.token_budget is not None:
            self._warn(f"the token budget is lowered to {settings.token_budget} visual tokens, so that the language model fits")
        if settings.window < WINDOWS[0]:
            self._warn(f"the compressor looks at {settings.window} frames at a time in place of {WINDOWS[0]}, so that it fits")
        if answers and settings.together:
            _ = models.language  # bad weights are refused before an hour of frames is looked at

    @cached_property
    def info(self) -> Any:
        """What the file holds (video.VideoInfo)."""
        from mambamia_cli.video.probe import probe

        return probe(self.path, stream=self._spec.stream)

    @property
    def _budget(self) -> int | None:
        """Visual tokens the language model may see: the user's, else what memory allows, else None."""
        return self.token_budget or self.models.settings.token_budget

    def _asking_rate(self) -> Fraction:
        return asking_rate((self._spec.end or self.info.duration or Fraction(0)) - (self._spec.start or 0))

    def _answer(self, asking: Asking, question: str, choices: Sequence[str] | None, on_text: Callable[[str], None] | None) -> AnswerRecord:
        began = time.perf_counter()
        self._progress("thinking", 0, None)
        reply, index, models = asking.reply(question, choices, on_text), asking.index, self.models
        answer, confidence = reply.answer, reply.confidence
        return AnswerRecord(
            question=question, answer=answer.text, finish=answer.finish, evidence=reply.evidence or None,
            confidence=None if confidence is None else round(confidence, 4),
            unsure=None if confidence is None else reply.guess or confidence < models.match.unsure,
            choices=answer.choices, warnings=(*self._doubts(index), *models.language.warnings),
            **self._told(index, began, reply.kept, tool=account.tool_record(models), llm=answer.seconds, first_token=answer.first_token),
        )  # fmt: skip

    def _mark(self, index: Index, threshold: float | None, min_scene_len: float) -> tuple[Scene, ...]:
        wanted = self.models.rule.threshold if threshold is None else threshold
        candidates, _ = self._candidates(index, wanted, refine=True)
        return marking.scenes_of(candidates, threshold=wanted, min_scene_len=min_scene_len, start=float(index.times[0]), end=index.range[1])

    def _candidates(self, index: Index, threshold: float, *, refine: bool) -> tuple[tuple[Candidate, ...], float]:
        self._progress("refining", 0, None)
        return candidates_of(index, self.path, self.models.rule, threshold, refine=refine, stream=self._spec.stream)

    def _told(self, index: Index, began: float, kept: Sequence[int] | None = None, *, tool: ToolRecord, **seconds: float | None) -> dict[str, Any]:
        """What every kind of record says of how it was made. seconds: of stages after the look, by name."""
        rate = next(fps for fps, known in self._indexes.items() if known is index)
        return {
            "video": account.video_record(index, self.source, self.path), "range": index.range, "tool": tool,
            "sampling": account.sampling_record(index, rate, self.models, kept),
            "timing_s": account.timing(index, began, **seconds), "memory_mib": peak_memory_mib(),
        }  # fmt: skip

    def _doubts(self, index: Index) -> list[str]:
        return account.doubts(index, self.path.name, self.models.name, self._spec.max_frames)
