"""Words as points of the language model's input space, and how well a visual token names each of them.

Training pulls a frame's tokens to the embeddings of the words that name what it shows (training/align.py), so a token
can be read back: the cosine to each word's embedding, times a learned temperature, is a logit over the words. The words
are those trained on; any other may be added, since every word has an embedding.

What the language model gets is not the token but its reading, the words' embeddings weighted by their probabilities: a
small model reads words, not places between them. A question makes the words that it names likelier beforehand.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambamia_cli.compressor.weights import load_weights, save_folder
from mambamia_cli.errors import ModelError

SCENE = "scene"  # the word for a frame in which nothing can be named
PRIOR = 2.0  # log-odds that a question lends to each word it names


class Lexicon(nn.Module):
    """Words as points: mean input embeddings of each word's tokens, (v, width), fixed; their centre; a learned temperature.

    `common` (v,): how readily each word is seen in footage that does not hold it, in log-odds above the mean word.
    """

    def __init__(self, words: Sequence[str], table: Tensor, centre: Tensor | None = None, common: Tensor | None = None):
        super().__init__()
        self.words = list(words)
        self.register_buffer("table", table, persistent=False)  # (v, width): the language model has it already
        self.register_buffer("centre", table.mean(0) if centre is None else centre)  # (width,)
        self.register_buffer("common", table.new_zeros(len(table)) if common is None else common)  # (v,)
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def scores(self, tokens: Tensor) -> Tensor:
        """tokens (..., width) -> logits (..., v)."""
        points = F.normalize(self.table - self.centre, dim=-1)  # (v, width)
        return self.log_scale.exp() * F.normalize(tokens - self.centre, dim=-1) @ points.T

    def posterior(self, tokens: Tensor, likely: Sequence[str] = (), prior: float = PRIOR) -> Tensor:
        """tokens (..., width) -> probabilities (..., v). `likely`: words that a question names."""
        logits, named = self.scores(tokens), set(likely)
        if named:
            logits = logits + prior * torch.tensor([word in named for word in self.words]).to(logits)
        return logits.softmax(-1)

    def reading(self, tokens: Tensor, likely: Sequence[str] = (), prior: float = PRIOR) -> Tensor:
        """tokens (..., width) -> the expected word, (..., width)."""
        return self.posterior(tokens, likely, prior) @ self.table

    def named(self, text: str) -> list[str]:
        """Words of the lexicon that stand in a text, in singular or plural; of "hot dog" and "dog" the longer one."""
        known, found = {word.lower(): word for word in self.words if word != SCENE}, []
        words = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())
        at = 0
        while at < len(words):
            for length in range(min(4, len(words) - at), 0, -1):
                phrase = " ".join(words[at : at + length])
                match = next((form for form in singulars(phrase) if form in known), None)
                if match is not None:
                    found.append(known[match])
                    break
            at += length if match is not None else 1
        return list(dict.fromkeys(found))

    def spelling(self, text: str) -> str:
        """A thing in anybody's words as the lexicon spells it: "a Bus", "buses" and "the old bus" are its "bus", "motorbikes" its
        "motorcycle", "model t" its "Model T", and of "penguins" it knows kinds. What it does not know comes back in lower case, without an
        article."""
        if text in self.words and text not in SYNONYMS:
            return text
        known = {word.lower(): word for word in self.words}
        heads = {word.rpartition(" ")[2] for word in known if " " in word}
        words = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())
        words = words[1:] if len(words) > 1 and words[0] in ARTICLES else words
        for begin in range(1 if WITHIN & set(words) else len(words)):
            for form in singulars(" ".join(words[begin:])):
                other = SYNONYMS.get(form, "")
                if other in known or form in known or form in heads:
                    return known.get(other) or known.get(form) or form
        return " ".join(words) or text.strip().lower()

    def extended(self, words: Sequence[str], embed: Callable[[str], Tensor]) -> "Lexicon":
        """With words that are not among these added at the end. `embed`: word -> (width,), see `word_point`."""
        new = [w for w in dict.fromkeys(words) if w not in self.words]
        table = torch.cat([self.table, *(embed(w)[None].to(self.table) for w in new)])
        wider = Lexicon([*self.words, *new], table, self.centre, torch.cat([self.common, self.common.new_zeros(len(new))]))
        wider.log_scale = self.log_scale
        return wider

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config.json (the words) and model.safetensors (centre, temperature). Raises OutputError."""
        save_folder(self, Path(folder), json.dumps({"words": self.words}, indent=0, ensure_ascii=False) + "\n")

    @classmethod
    def from_pretrained(cls, folder: Path | str, embed: Callable[[str], Tensor]) -> "Lexicon":
        """Read what save_pretrained wrote, the points taken from the language model's own table.

        Raises:
            ModelError: a missing, damaged or wrongly shaped file.
        """
        folder = Path(folder)
        try:
            words = json.loads((folder / "config.json").read_text(encoding="utf-8"))["words"]
            if not all(isinstance(w, str) and w for w in words):
                raise ValueError("a word is not text")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelError(f"the lexicon's config.json in {folder} cannot be read ({error})", "fetch or train the model again") from None
        lexicon = cls(words, torch.stack([embed(w) for w in words]))
        load_weights(lexicon, folder / "model.safetensors")
        return lexicon.eval().requires_grad_(False)


IRREGULAR = {"mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth", "men": "man", "women": "woman", "children": "child", "cacti": "cactus",
             "octopi": "octopus", "people": "person"}  # fmt: skip
ARTICLES = {"a", "an", "the", "any", "some"}
WITHIN = {"of", "with", "on", "in", "at", "by", "for", "from", "under", "behind"}
"""Words before which the thing itself stands: "man with a hat"."""

_ALSO = {
    "airplane": "plane, aeroplane, jet", "motorcycle": "motorbike", "car": "automobile, auto", "truck": "lorry", "rabbit": "bunny", "dog": "puppy, doggy", "cat": "kitten, kitty",
    "phone": "telephone, cellphone, cell phone, mobile phone, smartphone", "television": "tv, telly", "hamburger": "burger", "glasses": "spectacles, eyeglasses",
    "flower": "blossom", "gift": "present", "horse": "pony", "pig": "piglet", "sheep": "lamb", "boat": "sailboat", "violin": "fiddle", "microphone": "mic, mike",
    "watch": "wristwatch", "backpack": "rucksack", "helicopter": "chopper", "shrimp": "prawn", "corn": "maize", "candy": "sweets", "hotdog": "hot dog", "fire engine": "fire truck",
}  # fmt: skip
SYNONYMS = {word: name for name, words in _ALSO.items() for word in words.split(", ")}
"""Everyday words for what the embedded model's lexicon names otherwise; "plane" is a tool's name in it."""


def singulars(phrase: str) -> list[str]:
    """A phrase as it stands and what it may be the plural of."""
    forms = [phrase]
    *before, last = phrase.split(" ")
    if last in IRREGULAR:
        forms.append(" ".join([*before, IRREGULAR[last]]))
    if phrase.endswith("s") and not phrase.endswith("ss"):
        forms.append(phrase[:-1])
    if phrase.endswith("es"):
        forms.append(phrase[:-2])
    if phrase.endswith("ies"):
        forms.append(phrase[:-3] + "y")
    if phrase.endswith("ves"):
        forms += [phrase[:-3] + "f", phrase[:-3] + "fe"]
    return forms


def word_point(word: str, tokenize: Callable[[str], list[int]], embed: Callable[[list[int]], Tensor]) -> Tensor:
    """-> (width,): a word with a leading space, as it stands in a sentence, averaged over its tokens."""
    return embed(tokenize(" " + word)).float().mean(0)
