"""A UniMambaMia checkpoint, loaded and made to answer.

Prompt: the chat template with Qwen's default system message; in the user's turn the frames, a newline, the question. A frame
is its visual tokens, its share of the sound's tokens, and one learned vector that ends it. No times are told.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mambamia_cli.errors import ModelError
from mambamia_cli.language.loading import empty, fill, quantize_linears
from mambamia_cli.language.model import free_cached, memory_guard
from mambamia_cli.language.packing import source_identity
from mambamia_cli.language.tokenizer import TransformersTokenizer
from mambamia_cli.language.transformers_lm import TransformersLanguageModel, resolve_quant, unpack_odd_rows
from mambamia_cli.language.unimambamia.config import CONTEXT, SYSTEM, RelativeConfig, own_name, read_config, state_size
from mambamia_cli.language.unimambamia.senses import REMEDY, Hearing, Sight
from mambamia_cli.models.checkpoint import Checkpoint

_END = "<|im_end|>"

class _Parts(nn.Module):
    """The whole checkpoint as one tree, so that one pass over its shards fills all of it."""

    def __init__(self, config: RelativeConfig, shapes: dict[str, tuple[int, ...]]):
        from transformers import Qwen2Config, Qwen2ForCausalLM

        super().__init__()
        text = Qwen2Config.from_dict(config.text)
        text.tie_word_embeddings = bool(config.text.get("tie_word_embeddings", False))
        self.language = Qwen2ForCausalLM(text)
        self.sight = Sight(config, text.hidden_size)
        self.hearing: Hearing | None = None
        if config.audio is not None:
            self.hearing = Hearing(config, text.hidden_size, state_size(config, shapes))


class UniMambaMia:
    """`lm` is the language model; `frame_tokens` those of a frame without sound. Raises ModelError, OutOfMemoryError.

    quant: of the language model; the towers and projectors stay in the type that it computes in. "auto" is nf4 where
    bitsandbytes is, but float32 for a tiny one. turns: tower and encoder wait in host memory, and are on the device one after
    the other, each only while it is at work; the language model stays.
    """

    def __init__(self, folder: Path, config: dict[str, Any], *, name: str, quant: str = "auto", device: str = "cpu",
                 hear: bool = True, allow_pickle: bool = False, turns: bool = False):  # fmt: skip
        self.device, self.turns = device, turns and device != "cpu"
        self.config = read_config(folder, config, hear=hear)
        checkpoint = Checkpoint(folder, allow_pickle=allow_pickle)
        shapes = checkpoint.shapes()
        quant, warnings = resolve_quant(quant, device, shapes)
        dtype = torch.float32 if quant == "fp32" or (device == "cpu" and quant != "bf16") else torch.bfloat16
        with memory_guard("loading the model", "--quant nf4 or --no-audio"):
            parts = _empty_parts(folder, self.config, shapes)
            quantize_linears(parts.language, quant, dtype)
            tied = ("language.lm_head.weight",) if parts.language.config.tie_word_embeddings else ()
            fill(parts, checkpoint, lambda tensor: own_name(tensor, self.config), dtype=dtype, device=self._home, optional=tied)
            if tied:
                parts.language.lm_head.weight = parts.language.model.embed_tokens.weight
        if device == "cpu":
            unpack_odd_rows(parts.language)
        parts.eval()
        self.sight, self.hearing = parts.sight, parts.hearing
        tokenizer = _tokenizer(folder, config)
        identity = [source_identity(folder), "deaf" if self.hearing is None else "hearing"]
        revision = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
        self.lm = TransformersLanguageModel.around(parts.language, tokenizer, name=name, quant=quant, device=device,
                                                   revision=revision, warnings=warnings)  # fmt: skip
        self.lm.context_length = min(self.lm.context_length, CONTEXT)

    def _home(self, name: str) -> str:
        """Where a tensor of the parts waits."""
        return "cpu" if self.turns and not name.startswith("language.") else self.device

    def see(self, frames: Iterable[np.ndarray]) -> Tensor:
        """Pictures (H, W, 3) uint8 RGB of any size -> (m, t, d)."""
        with memory_guard("looking at the frames", REMEDY), self._at_work(self.sight):
            return self.sight(frames)

    def hear(self, windows: Iterable[np.ndarray]) -> Tensor:
        """Samples at 16 kHz, window by window, of a model that hears -> (a, d)."""
        assert self.hearing is not None
        with memory_guard("listening to the sound", REMEDY), self._at_work(self.hearing):
            return self.hearing(windows)

    @contextmanager
    def _at_work(self, sense: nn.Module) -> Iterator[None]:
        if not self.turns:
            yield
            return
        sense.to(self.device)
        try:
            yield
        finally:
            sense.to("cpu")
            free_cached()

    def lay_out(self, frames: Tensor, sound: Tensor | None) -> Tensor:
        """frames (m, t, d), sound (a, d) -> (l, d): what stands in the prompt for the video.

        Sound is spread evenly: ceil(a / m) tokens a frame, the last one repeated until every frame has as many. One frame
        alone is a picture, and has none.
        """
        m, width = len(frames), frames.shape[-1]
        if sound is None or m == 1 or not len(sound):
            sound = frames.new_empty(0, width)
        sound = sound.to(frames)
        each = [frames]
        if self.config.interleaved and len(sound):
            share = -(-len(sound) // m)
            filled = torch.cat([sound, sound[-1:].expand(share * m - len(sound), width)])
            each.append(filled.view(m, share, width))  # (m, share, d)
            sound = sound[:0]
        each.append(self.sight.newframe.to(frames).expand(m, 1, width))
        return torch.cat([torch.cat(each, 1).flatten(0, 1), sound])

    def prompt(self, video: Tensor, question: str) -> Tensor:
        """video (l, d), as laid out -> (l', d): the embeddings of the whole prompt."""
        before, after = self.texts(question)
        ends = [self.lm.embed(ids).to(video) for ids in (before, after)]
        return torch.cat([ends[0], video, ends[1]])

    def texts(self, question: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the video."""
        before = f"<|im_start|>system\n{SYSTEM}{_END}\n<|im_start|>user\n"
        after = f"\n{question}{_END}\n<|im_start|>assistant\n"
        return self.lm.tokenize(before), self.lm.tokenize(after)


def _empty_parts(folder: Path, config: RelativeConfig, shapes: dict[str, tuple[int, ...]]) -> _Parts:
    try:
        with empty():
            return _Parts(config, shapes)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise ModelError(f"the config.json of {folder} makes no model ({said})", "fetch the model again") from error


def _tokenizer(folder: Path, config: dict[str, Any]) -> TransformersTokenizer:
    from transformers import AutoTokenizer

    from mambamia_cli.language.tokenizer import stop_ids_of

    try:
        # The model type of the checkpoint is not one that transformers knows; the tokenizer's own files say what it is.
        tokenizer = AutoTokenizer.from_pretrained(folder, config=_text_config(config))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"the tokenizer of {folder} cannot be loaded", "fetch the model again") from error
    end = tokenizer.convert_tokens_to_ids(_END)
    known = {end} if isinstance(end, int) and end != tokenizer.unk_token_id else set()
    return TransformersTokenizer(tokenizer, stop_ids_of(folder, tokenizer.eos_token_id) | known)


def _text_config(config: dict[str, Any]):
    from transformers import Qwen2Config

    return Qwen2Config.from_dict({**config, "model_type": "qwen2"})
