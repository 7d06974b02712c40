"""What is seen in a video when no question names anything: drawn objects by the lexicon, the real world by ImageNet's head.

The lexicon has ImageNet's words too, but reads them from small squeezed frames; the head that taught them looks closer
(pipeline/imagenet_sight.py). So the survey's words are told where drawings taught them, and the head's beside them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mambamia_cli.pipeline import ordering
from mambamia_cli.pipeline.engine import Models
from mambamia_cli.pipeline.imagenet_sight import APART, Known
from mambamia_cli.pipeline.index import Index
from mambamia_cli.pipeline.relook import SecondLook, corrected, moments
from mambamia_cli.pipeline.sightings import Sightings

LISTED, ALONE = 0.0, 1.5
"""Log-odds from which a word is told that was looked at once more, and one that was not. Twelve hundred words have as many chances to
be misread, so the bars stand higher than for a word that is asked for. On 20 held-out videos of three drawings each, at 4 frames a
second, 42 of the 43 words told after second looks were right, and 42 of the 60 drawings were told; without them 29 of 35."""

SLOPE, MIDDLE = 1.36, -0.5
"""Log-odds of a word's best frame -> probability that it is in the video, as MatchRule has it for words that a question names;
fitted to all words in the same 20 videos after second looks."""

CANDIDATE, CANDIDATES = -2.0, 16
"""Log-odds from which a word is looked for once more, and so many words at most, the likeliest."""

_BLOCK = 1024
"""Frames read at once."""


def survey(index: Index, models: Models) -> Sightings:
    """Every word of the lexicon in every frame looked at: odds (w, m) without a question's help, smoothed in time. Classes of one
    name, as "crane" twice, are one word; the word for nothing at all is left out."""
    import torch

    from mambamia_cli.language.lexicon import SCENE
    from mambamia_cli.language.matching import smoothed
    from mambamia_cli.language.projector import frozen_tokens

    assert models.lexicon is not None and index.anchors is not None
    lexicon, m = models.lexicon, len(index.times)
    words = {word.lower(): word for word in reversed(lexicon.words) if word != SCENE}
    names = list(words)
    rows = []
    with torch.inference_mode():
        for at in range(0, m, _BLOCK):
            anchors = index.anchors.read(list(range(at, min(at + _BLOCK, m)))).to(models.device)  # (k, g, d)
            shares = lexicon.posterior(frozen_tokens(models.projector, anchors).cpu())  # (k, t, v)
            rows.append(pooled(shares, lexicon.words, names, lexicon.common))  # (w, k)
        odds = smoothed(torch.cat(rows, 1), index.seconds, models.match.smooth)  # (w, m)
        presence = torch.sigmoid(SLOPE * (odds.amax(1) - MIDDLE))
    return Sightings(tuple(words.values()), odds.numpy(), presence.numpy(), index.seconds, index.range[1])


def named(index: Index, models: Models, second: SecondLook) -> tuple[ordering.Named, ...]:
    """What is seen in a video, in the order of first times."""
    seen = survey(index, models)
    drawn = set(models.folder.objects) or set(seen.words)
    rows = [i for i, word in enumerate(seen.words) if word in drawn]
    ours = replace(seen, words=tuple(seen.words[i] for i in rows), odds=seen.odds[rows], presence=seen.presence[rows])
    ours = closer(ours, models, second)
    return merged(ordering.listed(ours, bar=LISTED if models.spotter is not None else ALONE, drop=models.match.drop), second.recognised())


def closer(seen: Sightings, models: Models, second: SecondLook) -> Sightings:
    """Odds after second looks: every word's at the moments that are looked at whatever is asked (SecondLook.swept), the likeliest
    words' also at those at which each is seen best. A word never looked at again is lowered by what its bar stands higher. All
    as they are for a model without a spotter."""
    import torch

    best, swept = seen.odds.max(1), second.swept()
    likely = [int(w) for w in np.argsort(-best, kind="stable")[:CANDIDATES] if best[w] >= CANDIDATE]
    if models.spotter is None or not (likely or swept):
        return seen
    chosen = {w: list(dict.fromkeys([*(moments(seen.odds[w], seen.times) if w in likely else ()), *swept])) for w in range(len(seen.words))}
    frames = sorted({i for moment in chosen.values() for i in moment})
    names = [word.lower() for word in seen.words]
    again = second.odds(frames, models.lexicon, lambda words, tokens: pooled(words.posterior(tokens), words.words, names, words.common))  # (w, k)
    place, odds, weight = {frame: k for k, frame in enumerate(frames)}, seen.odds - (ALONE - LISTED), models.match.again
    for w, looks in chosen.items():
        if looks:
            looked = {i: (1 - weight) * seen.odds[w, i] + weight * again[w, place[i]] for i in looks}
            odds[w] = corrected(seen.odds[w], seen.times, looked, models.match.drop)
    presence = torch.sigmoid(SLOPE * (torch.from_numpy(odds).amax(1) - MIDDLE))
    return replace(seen, odds=odds, presence=presence.numpy())


def merged(drawn: Sequence[ordering.Named], known: Sequence[Known]) -> tuple[ordering.Named, ...]:
    """Both in the order of first times; a thing that both name stands once, from its earlier time on."""
    of = {thing.name: thing for thing in drawn}
    for thing in known:
        there = of.get(thing.name)
        spans = sorted({*(there.stretches if there else ()), *((t, t + APART) for t in thing.times)})
        of[thing.name] = ordering.Named(thing.name, *spans[0], max(thing.score, there.chance if there else 0), tuple(spans))
    return tuple(sorted(of.values(), key=lambda thing: thing.start))


def pooled(shares, words, names, common):
    """shares (k, t, v) of `words` -> (w, k) log-odds of `names` (lower case, each once) in each frame's best token, less what a word has
    in common with any footage (v,)."""
    import torch

    at = {name: i for i, name in enumerate(names)}
    known = [i for i, word in enumerate(words) if word.lower() in at]
    into = torch.tensor([at[words[i].lower()] for i in known])
    total = torch.zeros(*shares.shape[:-1], len(names)).index_add_(-1, into, shares[..., known]).clamp(1e-7, 1 - 1e-7)  # (k, t, w)
    level = torch.full((len(names),), -np.inf).scatter_reduce(0, into, common[known].float(), "amax")  # (w,)
    return (total.log() - torch.log1p(-total)).amax(1).T - level[:, None]
