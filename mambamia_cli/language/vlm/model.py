"""An image-text-to-text model of transformers that is shown frames and answers.

A prompt is read in pieces that end behind a frame, each with its own pictures, so that neither pictures nor activations of
more than a few frames are in memory at once; what grows with the prompt is keys and values alone. What a question's frames
came to is kept for the next question on the same frames.
"""

import copy
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambamia_cli.errors import OutOfMemoryError, UsageError
from mambamia_cli.language.generation import Generation, GenerationOptions
from mambamia_cli.language.model import free_cached, memory_guard
from mambamia_cli.language.tokenizer import TransformersTokenizer, stop_ids_of
from mambamia_cli.language.transformers_lm import (
    LEAST_PREFILL,
    NO_LIMIT,
    PREFILL,
    REMEDY,
    cache_name,
    cut_back,
    resolve_quant,
)
from mambamia_cli.language.vlm.loading import load, read_config
from mambamia_cli.language.vlm.processing import FrameProcessor
from mambamia_cli.models.checkpoint import Checkpoint
from mambamia_cli.models.vlm import FAMILIES

log = logging.getLogger(__name__)

BATCH = 8  # frames a pass of the vision tower, at most


@dataclass(frozen=True)
class Shown:
    """A prompt. `frames(i, j)` grabs pictures i to j, (H, W, 3) uint8 of `size`; `key` tells whether they are those of an
    earlier prompt. `whole`: all of the processor's own tensors, where the prompt is not taken apart."""

    ids: list[int]
    frames: Callable[[int, int], Sequence[np.ndarray]]
    count: int
    size: tuple[int, int]
    key: Any
    whole: dict[str, Any] | None = None


@dataclass
class _Read:
    """What has been read: `ids` of it are in the cache."""

    key: Any
    ids: list[int]
    cache: Any = None


class VisionLanguageModel:
    """See pipeline.answerers.Speaker. `prefill`: prompt rows read at once, halved when memory runs out.

    Raises:
        ModelError, OutOfMemoryError. UsageError for a quant that is not for it.
    """

    def __init__(self, folder: Path, config: dict[str, Any], *, name: str, quant: str = "auto", device: str = "cpu", allow_pickle: bool = False):
        self.name, self.device, self.prefill = name, device, PREFILL
        settings = read_config(folder, name)
        checkpoint = Checkpoint(folder, allow_pickle=allow_pickle)
        self.quant, self.warnings = resolve_quant(quant, device, checkpoint.shapes())
        for warning in self.warnings:
            log.warning(warning)
        self.processor = FrameProcessor(folder, config, name=name)
        self.model = load(folder, settings, name=name, quant=self.quant, device=device, allow_pickle=allow_pickle)
        text = settings.get_text_config()
        self.context_length = getattr(text, "max_position_embeddings", None) or NO_LIMIT
        self.apart = settings.model_type in FAMILIES
        tokenizer = self.processor.tokenizer
        self.tokenizer = TransformersTokenizer(tokenizer, stop_ids_of(folder, tokenizer.eos_token_id) | _stops(self.model, text))
        self._takes = inspect.signature(self.model.forward).parameters
        self._cache_name = cache_name(self._takes)
        self._read_before: _Read | None = None
        self._placed: tuple[Shown, tuple[Tensor, int] | None] | None = None
        self._turn = 0

    def prompt(self, seconds: Sequence[float], question: str, size: tuple[int, int],
               frames: Callable[[int, int], Sequence[np.ndarray]], key: Any = None) -> Shown:  # fmt: skip
        """Frames at `seconds`, which `frames(i, j)` grabs when they are needed, and a question."""
        whole = None if self.apart else self.processor.whole(seconds, question, frames(0, len(seconds)))
        ids = self.processor.ids(seconds, question, size) if whole is None else whole["input_ids"][0].tolist()
        return Shown(ids, frames, len(seconds), size, key, whole)

    def generate(self, prompt: Shown, *, max_tokens: int = 256, seed: int = 0) -> Generation:
        """-> an iterator over the answer's pieces. The prompt is read before this returns."""
        room = self.context_length - len(prompt.ids)
        if room < 1:
            raise UsageError(f"the prompt has {len(prompt.ids)} tokens and the model's context {self.context_length}", "lower --token-budget")
        logits = self._read(prompt)
        turn, read = self._turn, self._read_before
        at = len(prompt.ids)

        def step(token: int) -> Tensor:
            nonlocal at
            if turn != self._turn or read is None:
                raise RuntimeError("this answer was ended by a later call: a model writes one answer at a time")
            at += 1
            return self._forward([token], read.cache, self._behind(prompt, at - 1, 1))[-1]

        return Generation(logits, step, self.tokenizer, GenerationOptions(min(max_tokens, room), seed=seed))

    def score(self, prompt: Shown, continuations: Sequence[str]) -> list[float]:
        """Log-probability of each continuation; the prompt is read once."""
        ids = [self.tokenizer.encode(text, special=False) for text in continuations]
        if not all(ids):
            raise UsageError("an answer to score is empty", "leave it out")
        first = self._read(prompt).log_softmax(-1)  # (vocabulary,)
        assert self._read_before is not None
        scores = []
        for tokens in ids:
            total = float(first[tokens[0]])
            if len(tokens) > 1:
                cache = copy.deepcopy(self._read_before.cache)  # a copy, not a cut: windows cannot be cut back
                where = self._behind(prompt, len(prompt.ids), len(tokens) - 1)
                logits = self._forward(tokens[:-1], cache, where, last_only=False)  # (l - 1, vocabulary)
                targets = torch.tensor(tokens[1:], device=logits.device)[:, None]
                total += float(logits.log_softmax(-1).gather(1, targets).sum())
            scores.append(total)
        return scores

    def _read(self, prompt: Shown) -> Tensor:
        """Read a prompt -> logits (vocabulary,) after it. As much as an earlier prompt on the same frames shares is kept."""
        self._turn += 1
        ids, read = prompt.ids, self._again(prompt)
        self._read_before = None
        done, logits = len(read.ids), None
        while done < len(ids):
            end, first, last = self._piece(prompt, done)
            try:
                logits = self._forward_piece(prompt, read, done, end, first, last)
            except OutOfMemoryError:
                if self.prefill <= LEAST_PREFILL:
                    raise
                logits = None
            if logits is None:  # outside of the except block, where the traceback holds no tensors any more
                done = self._smaller(read, done)
            else:
                done = end
        assert logits is not None
        read.ids = list(ids)
        self._read_before = read
        return logits[-1]

    def _again(self, prompt: Shown) -> _Read:
        """What was read before, cut back to what this prompt begins with, if all its frames are in that; else nothing."""
        before = self._read_before
        if before is None or not self.apart or prompt.key is None or before.key != prompt.key:
            return _Read(prompt.key, [])
        most = min(len(before.ids), len(prompt.ids) - 1)
        shared = next((i for i in range(most) if before.ids[i] != prompt.ids[i]), most)
        if shared <= max((i for i, token in enumerate(prompt.ids) if token == self.processor.image_id), default=0):
            return _Read(prompt.key, [])
        try:
            cut_back(before.cache, shared)
        except RuntimeError:  # sliding windows forget
            return _Read(prompt.key, [])
        return _Read(prompt.key, prompt.ids[:shared], before.cache)

    def _piece(self, prompt: Shown, done: int) -> tuple[int, int, int]:
        """The piece of a prompt that begins at `done`: (its end, its first frame, the one behind its last).

        It ends behind a frame, or within text; a frame larger than `prefill` is a piece of its own."""
        ids, limit = prompt.ids, done + self.prefill
        if not self.apart:
            return len(ids), 0, prompt.count
        places = [i for i, token in enumerate(ids) if token == self.processor.image_id]
        each = len(places) // max(1, prompt.count)
        first = sum(1 for i in places if i < done) // max(1, each)
        ends = [places[(frame + 1) * each - 1] + 1 for frame in range(first, min(prompt.count, first + BATCH))]
        if not ends:
            return min(len(ids), limit), first, first
        fitting = [end for end in ends if end <= limit] or ends[:1]
        return fitting[-1], first, first + len(fitting)

    def _forward_piece(self, prompt: Shown, read: _Read, done: int, end: int, first: int, last: int) -> Tensor:
        more: dict[str, Any] = {}
        if prompt.whole is not None:
            more = self._tensors({key: value for key, value in prompt.whole.items() if key != "input_ids"})
        elif last > first:
            more = self._tensors(self.processor.pixels(prompt.frames(first, last)))
            if "token_type_ids" in self._takes:  # which tokens are pictures, from the prompt's beginning: they see each other
                more["token_type_ids"] = (self._row(prompt.ids[:end]) == self.processor.image_id).long()
        positions = self._positions(prompt)
        if positions is not None:
            more["position_ids"] = positions[0][..., done:end]
        return self._forward(prompt.ids[done:end], read.cache, more, read=read)

    def _smaller(self, read: _Read, done: int) -> int:
        """Make room after memory ran out, for less at once -> how much of the prompt is still read."""
        self.prefill = max(LEAST_PREFILL, self.prefill // 2)
        log.warning("memory ran out while reading the prompt: going on with %d rows at once", self.prefill)
        if read.cache is not None:
            try:
                cut_back(read.cache, done)  # layers that had taken the piece up already
            except RuntimeError:
                read.cache, done = None, 0
        free_cached()
        return done

    def _positions(self, prompt: Shown) -> tuple[Tensor, int] | None:
        """Positions of all tokens in time, height and width, (3, 1, l), and what a token behind them adds to its own; None for
        a family that counts tokens one by one, or whose prompts are not taken apart."""
        if self._placed is None or self._placed[0] is not prompt:
            self._placed = (prompt, self._place(prompt))
        return self._placed[1]

    def _place(self, prompt: Shown) -> tuple[Tensor, int] | None:
        rope = getattr(getattr(self.model, "model", None), "get_rope_index", None) or getattr(self.model, "get_rope_index", None)
        if rope is None or not self.apart:
            return None
        # Counted in host memory: on a card it would wait for a number a picture, and more.
        ids = torch.tensor([prompt.ids])  # (1, l)
        grid = self.processor.grid(prompt.size).expand(prompt.count, 3)
        marks = (ids == self.processor.image_id).int()
        known = {"input_ids": ids, "image_grid_thw": grid, "mm_token_type_ids": marks, "attention_mask": torch.ones_like(ids)}
        taken = inspect.signature(rope).parameters
        positions, delta = rope(**{key: value for key, value in known.items() if key in taken})
        return positions.to(self.device), int(delta.flatten()[0])

    def _behind(self, prompt: Shown, at: int, count: int) -> dict[str, Any]:
        """Positions of `count` tokens from place `at` on, behind a prompt."""
        positions = self._positions(prompt)
        if positions is None:
            return {}
        places = torch.arange(at, at + count, device=self.device) + positions[1]
        return {"position_ids": places.expand(3, 1, count)}

    def _row(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor([ids], dtype=torch.long, device=self.device)  # (1, l)

    def _tensors(self, found: dict[str, Any]) -> dict[str, Any]:
        """The processor's tensors on the device, those that the model takes, pixels in its type."""
        placed = {}
        for key, value in found.items():
            if key in self._takes and isinstance(value, Tensor):
                placed[key] = value.to(self.device, self.model.dtype if value.is_floating_point() else value.dtype)
        if "batch_num_images" in placed:  # "several": pictures are then taken whole, as the processor did
            placed["batch_num_images"] = placed["batch_num_images"].clamp(min=2)
        return placed

    def _forward(self, ids: Sequence[int], cache: Any, more: dict[str, Any], *, last_only: bool = True, read: _Read | None = None) -> Tensor:
        """ids (l) -> logits (l or 1, vocabulary) float32. `read` gets the cache."""
        keep = {"logits_to_keep": 1} if last_only and "logits_to_keep" in self._takes else {}
        with torch.inference_mode(), memory_guard("reading the prompt or writing the answer", REMEDY):
            output = self.model(input_ids=self._row(ids), **{self._cache_name: cache}, use_cache=True, **keep, **more)
        if read is not None:
            read.cache = getattr(output, self._cache_name)
        return output.logits[0].float()


def _stops(model: Any, text: Any) -> frozenset[int]:
    """Ids that end an answer, by the model's own configuration."""
    values = [getattr(config, "eos_token_id", None) for config in (getattr(model, "generation_config", None), text)]
    return frozenset(i for value in values for i in (value if isinstance(value, list) else [value]) if isinstance(i, int))
