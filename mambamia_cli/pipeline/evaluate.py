"""Questions with known answers over many videos: predictions as they are made, accuracy by kind with intervals.

A row is {"id", "video", "question", "answer"} with "options" (a list) and "kind" where it has them. Videos are found
beside the file of rows. Rows are asked video by video, each looked at once.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambamia_cli.errors import InputError, MambamiaError, ModelError

WHEN_REACH = 2.0
"""Seconds by which the middle of the first evidence range may miss a time that was asked for."""

BINS = 10

SHOWN = 8
"""Of what was taken for what, the table shows so many."""


@dataclass(frozen=True)
class Row:
    """A question about a video file. `answer` is text, or seconds for a time."""

    id: str
    video: str
    question: str
    answer: str | float
    options: tuple[str, ...] = ()
    kind: str = "all"


@dataclass(frozen=True)
class Prediction:
    """What came of a row; `error` in place of an answer where the video or the question failed. `confidence` and `unsure` are the record's;
    `settings`: what else decided it, flag by flag."""

    id: str
    kind: str
    video: str
    question: str
    answer: str | float
    predicted: str | float | None
    right: bool
    confidence: float | None = None
    error: str | None = None
    unsure: bool | None = None
    settings: dict[str, Any] | None = None


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSON lines file. Raises InputError that names the first bad line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}", "check the path") from None
    except ValueError:  # not UTF-8, or a name with a null character
        raise InputError(f"{path} is not text", "give a file of JSON lines") from None
    rows, seen = [], set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line, f"line {number} of {path}")
        if row.id in seen:
            raise InputError(f"line {number} of {path} repeats the id {row.id!r}", "give every row its own id")
        seen.add(row.id)
        rows.append(row)
    if not rows:
        raise InputError(f"{path} holds no rows", "give one JSON object a line")
    return rows


def _row(line: str, where: str) -> Row:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({error})", "give one JSON object a line") from None
    if not isinstance(data, dict):
        raise InputError(f"{where} is not an object", 'write {"id": ..., "video": ..., "question": ..., "answer": ...}')
    for key in ("id", "video", "question", "answer"):
        if not isinstance(data.get(key), (str, int, float)) or isinstance(data[key], bool) or data[key] == "":
            raise InputError(f"{where} lacks {key!r}", "give id, video, question and answer")
    options = data.get("options") or ()
    if not isinstance(options, (list, tuple)) or not all(isinstance(o, str) and o.strip() for o in options):
        raise InputError(f"{where} has options that are not a list of texts", "correct it or leave it out")
    answer = data["answer"] if isinstance(data["answer"], str) else float(data["answer"])
    if options:  # a number is then no time, but one of the texts
        answer = str(data["answer"])
        if normal(answer) not in map(normal, options):
            raise InputError(f"{where} has an answer, {answer[:40]!r}, that is none of its options", "give the text of one")
    return Row(str(data["id"]), str(data["video"]), str(data["question"]), answer, tuple(options), str(data.get("kind") or "all"))


def evaluate(rows: Sequence[Row], folder: Path, opened: Callable[[str], Any], *, done: dict[str, Prediction] | None = None,
             on_error: Callable[[str, Exception], None] | None = None, **asking: Any) -> Iterator[Prediction]:  # fmt: skip
    """Ask all rows that are not `done`, video by video. `opened`: path -> pipeline.Video; `asking` goes to Video.ask.

    A video that fails gives each of its rows an error; the rest are asked. Raises ModelError: without its model no row is answered.
    """
    waiting: dict[str, list[Row]] = {}
    for row in rows:
        if not done or row.id not in done:
            waiting.setdefault(row.video, []).append(row)
    for name, asked in waiting.items():
        path, video, problem = folder / name, None, None
        try:
            video = opened(str(path))
        except ModelError:
            raise
        except MambamiaError as error:
            problem = error
        for row in asked:
            try:
                if problem is not None:
                    raise problem
                record = video.ask(row.question, choices=row.options or None, **asking)
                yield judged(row, record)
            except ModelError:
                raise
            except MambamiaError as error:
                if on_error is not None:
                    on_error(row.id, error)
                yield Prediction(row.id, row.kind, row.video, row.question, row.answer, None, False, error=str(error))


def judged(row: Row, record: Any) -> Prediction:
    """A record beside what was wanted. A time is right within WHEN_REACH of the middle of the first evidence range."""
    predicted: str | float | None = record.answer
    if isinstance(row.answer, float) and not row.options:
        first = record.evidence[0] if record.evidence else None
        predicted = None if first is None else (first.start + first.end) / 2
        right = predicted is not None and abs(predicted - row.answer) <= WHEN_REACH
    else:
        right = normal(str(predicted)) == normal(str(row.answer))
    return Prediction(row.id, row.kind, row.video, row.question, row.answer, predicted, right, record.confidence, unsure=record.unsure)


def normal(text: str) -> tuple[str, ...]:
    """Texts that say the same become equal: case, articles, final dots; lists joined by commas or "and" as sorted parts."""
    parts = re.split(r",|\band\b", text.lower())
    cleaned = (re.sub(r"\b(the|a|an)\b|[^\w\s-]", " ", part) for part in parts)
    return tuple(sorted(filter(None, (" ".join(part.split()) for part in cleaned))))


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default."""
    if not count:
        return 0.0, 1.0
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def summary(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Accuracy by kind, in order of appearance, then over all: {"kind", "count", "right", "accuracy", "low", "high", "errors",
    "confused"}, and where predictions carry a confidence {"ece", "told", "told_right", "told_accuracy"}: see `confused`, `trust`."""
    kinds = list(dict.fromkeys(p.kind for p in predictions))
    groups = [(kind, [p for p in predictions if p.kind == kind]) for kind in kinds]
    if len(groups) > 1:
        groups.append(("all", list(predictions)))
    lines = []
    for kind, group in groups:
        right = sum(p.right for p in group)
        low, high = wilson(right, len(group))
        lines.append({"kind": kind, "count": len(group), "right": right, "accuracy": round(right / max(1, len(group)), 4),
                      "low": round(low, 4), "high": round(high, 4), "errors": sum(p.error is not None for p in group),
                      "confused": confused(group), **trust(group)})  # fmt: skip
    return lines


def confused(group: Sequence[Prediction]) -> list[dict[str, Any]]:
    """What was taken for what, the most frequent first: {"answer", "predicted", "count"}; a time that is wrong or missing counts as such."""
    wrong = Counter((_named(p.answer), _named(p.predicted)) for p in group if not p.right and p.error is None)
    return [{"answer": answer, "predicted": predicted, "count": count} for (answer, predicted), count in wrong.most_common()]


def _named(answer: str | float | None) -> str:
    return "nothing" if answer is None else answer if isinstance(answer, str) else "a time"


def trust(group: Sequence[Prediction]) -> dict[str, Any]:
    """How far confidence can be trusted: expected calibration error over BINS bins of equal width (the share of a bin's answers
    that are right against their mean confidence, weighted by count), and of the answers told (not unsure) how many are right."""
    stated = [(p.confidence, p.right) for p in group if p.confidence is not None]
    if not stated:
        return {}
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in stated:
        bins.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, right))
    gaps = (abs(sum(c for c, _ in inside) - sum(r for _, r in inside)) for inside in bins.values())
    told = [p.right for p in group if p.confidence is not None and not p.unsure]
    return {"ece": round(sum(gaps) / len(stated), 4), "told": len(told), "told_right": sum(told),
            "told_accuracy": round(sum(told) / len(told), 4) if told else None}  # fmt: skip


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The summary as text."""
    sure = any("ece" in s for s in lines)
    head = f"{'kind':<12}{'right':>7}{'of':>6}{'accuracy':>10}   {'95 % interval':<16}" + ("  calibration error   right when sure" if sure else "")
    rows = [f"{s['kind']:<12}{s['right']:>7}{s['count']:>6}{s['accuracy']:>9.1%}   {_interval(s):<16}"
            + (_trusted(s) if "ece" in s else "") + (f"   {s['errors']} failed" if s["errors"] else "") for s in lines]  # fmt: skip
    last = lines[-1] if lines else {}  # over all kinds
    taken = [f"  {c['answer']} -> {c['predicted']}" + (f" ({c['count']} times)" if c["count"] > 1 else "") for c in last.get("confused", [])[:SHOWN]]
    return "\n".join(line.rstrip() for line in [head, *rows, *(["", "Wrong, what was right -> what was said:", *taken] if taken else [])])


def _interval(line: dict[str, Any]) -> str:
    return f"{line['low']:.1%} to {line['high']:.1%}"


def _trusted(line: dict[str, Any]) -> str:
    share = f"{line['told_accuracy']:>9.1%} of {line['told']}" if line["told"] else f"{'none':>9}"
    return f"  {line['ece']:>17.3f}   {share}"
