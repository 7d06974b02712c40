"""The fast CPU decoder as a LanguageModel: text in and out, one prompt's keys and values kept for the next question."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from mambamia_cli.errors import UsageError
from mambamia_cli.language.fast_llama import FastLlama
from mambamia_cli.language.generation import Generation, GenerationOptions
from mambamia_cli.language.model import check_prompt, memory_guard
from mambamia_cli.language.packing import Matrix, adapter_digest, source_identity
from mambamia_cli.language.tokenizer import FastTokenizer

REMEDY = "a lower --token-budget"


class LlamaLanguageModel:
    """See model.LanguageModel. quant "auto" is what is fastest on this CPU at equal answers (see fastest_quant)."""

    def __init__(self, folder: Path, *, name: str, quant: str = "auto", adapter: Path | None = None):
        self.name, self.device, self.warnings = name, "cpu", ()
        self.quant = fastest_quant() if quant == "auto" else quant
        self.tokenizer = FastTokenizer(folder)
        self.llama = FastLlama(folder, self.quant, adapter)
        self.width, self.context_length = self.llama.width, self.llama.context_length
        identity = [source_identity(folder), adapter_digest(adapter) if adapter else None]
        self.revision = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
        self._prompt = torch.empty(0, self.width)  # rows whose keys and values are in the cache, from position 0
        self._turn = 0

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        return self.tokenizer.encode(text, special=special)

    def embed(self, text: str | Sequence[int]) -> Tensor:
        ids = self.tokenize(text) if isinstance(text, str) else list(text)
        return self.llama.embedding[torch.tensor(ids, dtype=torch.long)].float()  # (l, width)

    def chat_text(self, user: str, system: str | None = None) -> str:
        return self.tokenizer.chat_text(user, system)

    def generate(
        self, embeds: Tensor, *, max_tokens: int = 256, stop: Sequence[str] = (), temperature: float = 0.0, seed: int = 0
    ) -> Generation:
        room = check_prompt(embeds, self.width, self.context_length, max_tokens)
        options = GenerationOptions(min(max_tokens, room), tuple(stop), temperature, seed)
        logits = self._read(embeds, room=options.max_tokens)
        turn = self._turn

        def step(token: int) -> Tensor:
            if turn != self._turn:
                raise RuntimeError("this answer was ended by a later call: a model writes one answer at a time")
            with memory_guard("writing the answer", REMEDY):
                return self.llama.forward(self.llama.embedding[token : token + 1])

        return Generation(logits, step, self.tokenizer, options)

    def score(self, embeds: Tensor, continuations: Sequence[str], *, mean: bool = False) -> list[float]:
        ids = [self.tokenize(text, special=False) for text in continuations]
        if not all(ids):
            raise UsageError("an answer to score is empty", "leave it out")
        if not ids:
            return []
        check_prompt(embeds, self.width, self.context_length - max(map(len, ids)), 1)
        first = self._read(embeds, room=max(map(len, ids))).log_softmax(-1)  # (vocabulary,)
        start, scores = self.llama.position, []
        for tokens in ids:
            total = float(first[tokens[0]])
            if len(tokens) > 1:
                self.llama.position = start  # forget the continuation before
                with memory_guard("scoring", REMEDY):
                    logits = self.llama.forward(self.embed(tokens[:-1]), last_only=False)  # (l - 1, vocabulary)
                total += float(logits.log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None]).sum())
            scores.append(total / len(tokens) if mean else total)
        return scores

    def _read(self, embeds: Tensor, *, room: int) -> Tensor:
        """Read a prompt (l, width) -> logits (vocabulary,); what it shares with the prompt before is not read again."""
        embeds = embeds.detach().to("cpu", torch.float32)
        self._turn += 1
        shared = min(len(embeds) - 1, len(self._prompt))  # the last row is always read: its logits are wanted
        differs = (embeds[:shared] != self._prompt[:shared]).any(-1).nonzero()  # (rows that differ, 1)
        self.llama.position = int(differs[0]) if len(differs) else shared
        self._prompt = embeds[: self.llama.position]  # nothing else is sure if reading fails
        with memory_guard("reading the prompt", REMEDY):
            self.llama.reserve(len(embeds) + room)
            logits = self.llama.forward(embeds[self.llama.position :])
        self._prompt = embeds.clone()
        return logits


@lru_cache(maxsize=1)
def fastest_quant() -> str:
    """What this CPU multiplies one row fastest with: "int4", "int8" or "bf16"/"fp32", measured in a few milliseconds.

    All keep the answers (packing falls back to 8 bits where 4 do not reproduce a matrix), so only speed decides. int4
    is kept unless clearly slower, so that a busy moment does not make the cache flip between forms.
    """
    weight, best = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0)) / 32, {}
    weight = (weight * 200).round().clamp(-7, 7) / 200  # 4-bit weights, so that they are packed in 4 bits
    weight[:, ::16], weight[:, 1::16] = -7 / 200, 8 / 200
    for quant in ("int4", "int8", "bf16", "fp32"):
        try:
            matrix = Matrix.packed(weight, quant)
            x = torch.randn(1, 1024).to(torch.float32 if quant == "fp32" else torch.bfloat16)
            best[quant] = min(_seconds(matrix, x) for _ in range(20))
        except (RuntimeError, NotImplementedError, AttributeError):  # this build of torch lacks the kernel
            continue
    quickest = min(best, key=best.get)
    return "int4" if "int4" in best and best["int4"] < 1.5 * best[quickest] else quickest


def _seconds(matrix: Matrix, x: Tensor) -> float:
    from time import perf_counter

    start = perf_counter()
    matrix.few(x)
    return perf_counter() - start
