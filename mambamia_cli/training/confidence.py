"""How sure an answer is, learned on videos with known answers that are neither trained nor judged on.

Three things are fitted, in this order, and kept as `evidence` in the model's config.json (language.matching.MatchRule):
how much a second look counts beside the first and what log-odds mean that a thing is there (logistic regression on words
that are and are not in each video); then how much evidence and language model each count for a choice (likelihood of the
right option). The probabilities that come out are the record's `confidence`.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mambamia_cli.language.intent import read as read_intent
from mambamia_cli.language.matching import MatchRule
from mambamia_cli.pipeline import sightings
from mambamia_cli.pipeline.asking import Asking
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.relook import SecondLook
from mambamia_cli.pipeline.video import open_video

AGAIN = (0.0, 0.4, 0.6, 0.8, 1.0)
EVIDENCE, LANGUAGE = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0), (0.0, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Choice:
    """A question with options: log-probability of each by evidence and by the language model, and which is right."""

    evidence: np.ndarray
    language: np.ndarray
    right: int


def calibrate(model: str, folder: Path, log) -> MatchRule:
    """The rule for a model folder, from `questions.jsonl` and its videos in `folder` (training/validation.py)."""
    models = Models(model)
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    videos = {name: [row for row in rows if row["video"] == name] for name in dict.fromkeys(row["video"] for row in rows)}
    looks = {}
    for name in videos:
        index = open_video(folder / name, models=models).index()
        looks[name] = (index, SecondLook(index, models))
        log(f"calibration: looked at {name}")
    fits = []
    for again in AGAIN:
        rule = models.match = replace(models.match, again=again)
        odds, there = _words(models, videos, looks)
        slope, middle, loss = fit_presence(odds, there)
        fits.append((loss, replace(rule, slope=slope, middle=middle)))
        log(f"calibration: second look {again:g}: slope {slope:.2f}, middle {middle:.2f}, loss {loss:.4f}")
    models.match = min(fits, key=lambda fit: fit[0])[1]
    choices = _choices(models, videos, looks)
    weight, language, loss = fit_weights(choices)
    log(f"calibration: evidence {weight:g}, language model {language:g}, loss {loss:.4f} over {len(choices)} questions")
    return replace(models.match, weight=weight, language=language)


def _words(models: Models, videos: dict, looks: dict) -> tuple[np.ndarray, np.ndarray]:
    """Best log-odds of every word that a video's questions name, and whether it is in the video."""
    odds, there = [], []
    for name, rows in videos.items():
        truth = {word for row in rows if row["kind"] == "list" for word in models.lexicon.named(row["answer"])}
        words = sorted({o for row in rows if row["kind"] != "exists" for o in row["options"] or ()} | truth)
        seen = sightings.look_for(looks[name][0], models, words, looks[name][1])
        odds += seen.odds.max(1).tolist()
        there += [word in truth for word in words]
    return np.array(odds), np.array(there)


def fit_presence(odds: np.ndarray, there: np.ndarray) -> tuple[float, float, float]:
    """Logistic regression, words that are there and words that are not counting alike: -> slope, middle, loss."""
    x, y = torch.from_numpy(odds).double(), torch.from_numpy(there).double()
    share = float(y.mean())
    weight = torch.where(y > 0, 0.5 / share, 0.5 / (1 - share))
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS([line], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        steps.zero_grad()
        value = F.binary_cross_entropy_with_logits(line[0] * x + line[1], y, weight=weight)
        value.backward()
        return value

    steps.step(loss)
    slope, offset = line.tolist()
    return round(slope, 3), round(-offset / slope, 3), loss().item()


def _choices(models: Models, videos: dict, looks: dict) -> list[Choice]:
    found = []
    for name, rows in videos.items():
        index, second = looks[name]
        asking = Asking(index, models, None, 16, second=second)
        for row in rows:
            options = tuple(row["options"] or ())
            intent = read_intent(row["question"], models.lexicon.named(row["question"]), options)
            if len(options) < 2 or intent.kind not in ("appear", "first", "last"):
                continue
            seen = sightings.look_for(index, models, intent.things, second)
            told = dict(asking.told(row["question"], options)[0].choices)
            language = np.log([max(told[option], 1e-6) for option in options])
            found.append(Choice(sightings.likelihoods(intent, seen), language, options.index(row["answer"])))
    return found


def fit_weights(choices: Sequence[Choice]) -> tuple[float, float, float]:
    """The weights of evidence and language model under which the right options are likeliest: -> evidence, language, loss."""
    tried = [(sum(_surprise(c, e, w) for c in choices) / len(choices), e, w) for e in EVIDENCE for w in LANGUAGE]
    loss, evidence, language = min(tried)
    return evidence, language, loss


def _surprise(choice: Choice, evidence: float, language: float) -> float:
    score = evidence * choice.evidence + language * choice.language
    return float(np.logaddexp.reduce(score) - score[choice.right])


def write(rule: MatchRule, model: Path) -> None:
    """Put the rule into a model folder's config.json, whole or not at all."""
    path = model / "config.json"
    config = json.loads(path.read_text())
    config["evidence"] = {name: value if isinstance(value, bool) else round(value, 4) for name, value in asdict(rule).items() if math.isfinite(value)}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(config, indent=2) + "\n")
    temporary.rename(path)
