"""A question rewritten with few words, X for each thing that it names."""

import re
from typing import NamedTuple

from mambamia_cli.language.intent.words import AFTER_ARTICLE, DETERMINERS, MEASURES, PHRASES, QUOTED, SAME


class Phrase(NamedTuple):
    """The words of a thing as they stand in the question; whether the wording makes it a plural."""

    text: str
    plural: bool = False


def skeleton(question: str) -> tuple[str, list[Phrase]]:
    """-> the question with X for each thing, ALT for things joined by "or" and BOTH by "and", and the words of the things, in order."""
    text = " ".join(question.lower().replace("\u2019", "'").translate({0x201C: '"', 0x201D: '"'}).split())
    quoted: list[str] = []

    def keep(match: re.Match) -> str:
        quoted.append(match.group(1) or match.group(2))
        return f" the {QUOTED}{len(quoted) - 1} "

    text = re.sub(r"\"([^\"]{2,40})\"|(?<!\w)'([^']{2,40})'(?!\w)", keep, text)
    text = re.sub(r"[.?!]+(?=\s|$)|[()\[\]]", " ", text)
    text = re.sub(r"[:;,]", " , ", text)
    text = re.sub(r"^\W+", "", " ".join(text.split()))
    for pattern, token in PHRASES:
        text = pattern.sub(token, text)
    bones, things = _things(re.findall(r"[\w'-]+|,", text), quoted)
    line = re.sub(r"(?<!\S)X(?: ,)?(?: X(?: ,)?)* (or|and) X(?!\S)", lambda m: "ALT" if m.group(1) == "or" else "BOTH", " ".join(bones))
    line = " ".join(w for w in line.split() if w != ",")
    line = re.sub(r"^(?:here |with (?=ALT|BOTH))+", "", line)
    return re.sub(r"\b(be|do|can|have|here|appear|see|first|last)(?: \1)+\b", r"\1", line), things


def _things(words: list[str], quoted: list[str]) -> tuple[list[str], list[Phrase]]:
    """Words of the wording as one of each meaning, runs of other words as X."""
    bones: list[str] = []
    things: list[Phrase] = []
    run: list[str] = []
    article = ""
    plural = any(w in ("are", "were", "do", "have") for w in words)

    def close() -> None:
        nonlocal article
        if run:
            things.append(Phrase(" ".join(run), article in ("any", "some") or (plural and article not in ("a", "an"))))
            bones.append("X")
        run.clear()
        article = ""

    for before, word in zip(["", *words], words, strict=False):
        if word in DETERMINERS:
            if before != "of":
                close()
            article = word
        elif word == "of" and run:
            if not {run[-1], run[-1].rstrip("s")} & MEASURES:
                run.append("of")
            else:
                run.clear()
        elif word == "," or (word in SAME and (before not in DETERMINERS or SAME[word] in AFTER_ARTICLE)):
            close()
            bones.append(SAME.get(word, word))
        else:
            run.append(quoted[int(word.removeprefix(QUOTED))] if word.startswith(QUOTED) else word.removesuffix("'s").removesuffix("'"))
    close()
    return bones, things


def known(phrase: Phrase, named: list[str]) -> str:
    """The longest word of the lexicon that a phrase is or ends in ("old buses" -> "bus"), else the phrase."""
    from mambamia_cli.language.lexicon import singulars

    names, words = {name.lower(): name for name in named}, phrase.text.split()
    for begin in range(len(words)):
        for form in singulars(" ".join(words[begin:])):
            if form in names:
                return names[form]
    return _singular(phrase.text) if phrase.plural else phrase.text


def _singular(phrase: str) -> str:
    """A guess that is right for regular plurals, for words that no lexicon has."""
    for ending, kept in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x")):
        if phrase.endswith(ending) and len(phrase) > len(ending) + 1:
            return phrase[: -len(ending)] + kept
    return phrase[:-1] if phrase.endswith("s") and not phrase.endswith(("ss", "us", "is")) else phrase
