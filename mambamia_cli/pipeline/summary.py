"""Scenes -> a title each and a paragraph: listed by what is recognised, or written by a language model from its frames."""

from collections.abc import Sequence
from dataclasses import replace

from mambamia_cli.language.prompt import SUMMARY_QUESTION, TITLE_QUESTION
from mambamia_cli.pipeline.answer import generate, kept_frames, prompt
from mambamia_cli.pipeline.engine import Models, Progress
from mambamia_cli.pipeline.index import Index
from mambamia_cli.pipeline.ordering import NOTHING, Named, joined
from mambamia_cli.records import Scene

TITLE_FRAMES, TITLE_TOKENS, MOST_TITLES = 16, 24, 40
"""A scene's title is made from so many of its frames and is so long; so many titles are read to the model for the paragraph."""

LONGEST_QUESTION = SUMMARY_QUESTION + "x" * MOST_TITLES * TITLE_TOKENS * 3
"""As long as what the model is asked for the paragraph can become, to plan with."""


def listed(things: Sequence[Named], found: Sequence[Scene]) -> tuple[list[Scene], str]:
    """Scenes titled by what is recognised in each, and a sentence of all of it: a model that reads its tokens in a lexicon
    writes lists of words at best, and not always of words that are there."""
    titled = [replace(s, title=joined([t.name for t in things if t.within(s.start, s.end)]) or NOTHING) for s in found]
    return titled, f"The video shows {joined([thing.name for thing in things]) or NOTHING}."


def written(
    index: Index, models: Models, budget: int | None, found: Sequence[Scene], max_tokens: int, progress: Progress
) -> tuple[list[Scene], str, str]:
    """Scenes titled by the language model, each from its own frames, and a paragraph of its own: -> scenes, text, finish."""
    times, titled = index.seconds, []
    for scene in found:
        progress("titling scenes", scene.n - 1, len(found))
        inside = [i for i, t in enumerate(times) if scene.start <= t < scene.end] or [0]
        span = (scene.start, scene.end)
        kept = kept_frames(index, models, budget, TITLE_QUESTION, TITLE_TOKENS, within=inside, most=TITLE_FRAMES, span=span)
        title = generate(models, prompt(index, models, kept, TITLE_QUESTION, span), TITLE_TOKENS)
        titled.append(replace(scene, title=_first_line(title.text)))
    progress("summarizing", 0, None)
    question = SUMMARY_QUESTION.format(titles=_titles(titled))
    kept = kept_frames(index, models, budget, question, max_tokens)
    answer = generate(models, prompt(index, models, kept, question), max_tokens)
    return titled, " ".join(answer.text.split()), answer.finish


def _first_line(text: str) -> str:
    return next((line.strip().strip("\"'").rstrip(".") for line in text.splitlines() if line.strip()), "")


def _titles(scenes: Sequence[Scene]) -> str:
    """At most MOST_TITLES titles as a list, spread evenly over the scenes."""
    step = max(1, -(-len(scenes) // MOST_TITLES))
    return "\n".join(f"- {scene.title}" for scene in scenes[::step])
