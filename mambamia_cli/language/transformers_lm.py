"""Any causal language model of transformers as a LanguageModel: Llama, Qwen2, GPT-NeoX, Mamba2 ..., 4-bit by bitsandbytes.

The decode loop is ours rather than `generate`, so that every model streams, stops and guards against loops alike.
"""

import copy
import hashlib
import inspect
import json
import logging
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from mambamia_cli.errors import ModelError, OutOfMemoryError, UsageError
from mambamia_cli.language.generation import Generation, GenerationOptions
from mambamia_cli.language.lora import merge_adapter
from mambamia_cli.language.model import check_prompt, free_cached, has_bitsandbytes, memory_guard
from mambamia_cli.language.packing import adapter_digest, read_state, source_identity
from mambamia_cli.language.tokenizer import TransformersTokenizer
from mambamia_cli.models import hub

log = logging.getLogger(__name__)

SMALL_MODEL = 1_000_000_000  # parameters up to which "auto" on a CPU takes float32: there it is the quicker one
NO_LIMIT = 1 << 20  # context of a state-space model, which has none of its own
PREFILL, LEAST_PREFILL = 4096, 64  # prompt rows read at once; below the second, less would not help
REMEDY = "--quant nf4, a lower --token-budget or a smaller model"


class TransformersLanguageModel:
    """See model.LanguageModel. `source` is a folder or a hub id; only safetensors weights are read, no code is run.

    `prefill`: prompt rows read at once, halved when memory runs out. It bounds activations and changes only rounding.
    """

    def __init__(self, source: Path | str, *, name: str, quant: str, device: str, adapter: Path | None = None):
        self.name, self.device = name, device
        self.quant, self.warnings = available_quant(quant, device)
        for warning in self.warnings:
            log.warning(warning)
        if adapter is not None and not isinstance(source, Path):
            source = hub.fetch(source)  # the adapter is merged into the files' tensors
        self.model = _load(source, self.quant, device, adapter)
        if self.quant == "auto":
            small = self.model.num_parameters() <= SMALL_MODEL
            self.quant = "fp32" if small else "bf16"
            self.model = self.model.to(torch.float32 if small else torch.bfloat16)
        self._prepare(_load_tokenizer(source, self.model), _revision(source, self.model.config, adapter))

    @classmethod
    def around(cls, model, tokenizer: TransformersTokenizer, *, name: str, quant: str, device: str, revision: str,
               warnings: tuple[str, ...] = ()) -> Self:  # fmt: skip
        """The same around a model that is loaded already."""
        own = cls.__new__(cls)
        own.name, own.device, own.quant, own.warnings, own.model = name, device, quant, warnings, model
        for warning in warnings:
            log.warning(warning)
        own._prepare(tokenizer, revision)
        return own

    def _prepare(self, tokenizer: TransformersTokenizer, revision: str) -> None:
        self.tokenizer, self.revision = tokenizer, revision
        self.width = self.model.get_input_embeddings().weight.shape[1]
        self.context_length = getattr(self.model.config, "max_position_embeddings", None) or NO_LIMIT
        parameters = inspect.signature(self.model.forward).parameters
        self._cache_name = cache_name(parameters)
        self._stateful = getattr(self.model, "_is_stateful", False) or self._cache_name == "cache_params"
        self._keep = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._cache, self._turn = None, 0
        self.prefill = PREFILL

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        return self.tokenizer.encode(text, special=special)

    def embed(self, text: str | Sequence[int]) -> Tensor:
        ids = self.tokenize(text) if isinstance(text, str) else list(text)
        table = self.model.get_input_embeddings()
        with torch.inference_mode():
            return table(torch.tensor(ids, dtype=torch.long, device=table.weight.device)).float().cpu()  # (l, width)

    def chat_text(self, user: str, system: str | None = None) -> str:
        return self.tokenizer.chat_text(user, system)

    def generate(
        self, embeds: Tensor, *, max_tokens: int = 256, stop: Sequence[str] = (), temperature: float = 0.0, seed: int = 0
    ) -> Generation:
        room = check_prompt(embeds, self.width, self.context_length, max_tokens)
        options = GenerationOptions(min(max_tokens, room), tuple(stop), temperature, seed)
        logits = self._read(embeds)
        turn = self._turn

        def step(token: int) -> Tensor:
            if turn != self._turn:
                raise RuntimeError("this answer was ended by a later call: a model writes one answer at a time")
            return self._forward(torch.tensor([[token]], device=self.device), self._cache)[-1]

        return Generation(logits, step, self.tokenizer, options)

    def score(self, embeds: Tensor, continuations: Sequence[str], *, mean: bool = False) -> list[float]:
        ids = [self.tokenize(text, special=False) for text in continuations]
        if not all(ids):
            raise UsageError("an answer to score is empty", "leave it out")
        if not ids:
            return []
        check_prompt(embeds, self.width, self.context_length - max(map(len, ids)), 1)
        first = self._read(embeds).log_softmax(-1)  # (vocabulary,)
        scores = []
        for tokens in ids:
            total = float(first[tokens[0]])
            if len(tokens) > 1:
                # A copy, not a crop: a state-space cache cannot be cut back.
                cache = copy.deepcopy(self._cache)
                rest = torch.tensor([tokens[:-1]], device=self.device)
                # A state-space layer takes its recurrent state up in single steps only.
                steps = rest.split(1, dim=1) if self._stateful else [rest]
                logits = torch.cat([self._forward(step, cache, last_only=False) for step in steps])  # (l - 1, vocab)
                targets = torch.tensor(tokens[1:], device=logits.device)[:, None]
                total += float(logits.log_softmax(-1).gather(1, targets).sum())
            scores.append(total / len(tokens) if mean else total)
        return scores

    def _read(self, embeds: Tensor) -> Tensor:
        """Read a prompt (l, width) into a new cache -> logits (vocabulary,)."""
        self._turn += 1
        self._cache = None
        table = self.model.get_input_embeddings().weight
        rows = embeds.detach()[None].to(table.device, table.dtype)  # (1, l, width)
        if self._stateful:  # a state-space layer takes more than one row up from nothing only
            return self._forward(rows, None)[-1]
        done, logits = 0, None
        while done < rows.shape[1]:
            piece = rows[:, done : done + self.prefill]
            if (logits := self._attempt(piece, done)) is not None:
                done += piece.shape[1]
        return logits[-1]

    def _attempt(self, piece: Tensor, done: int) -> Tensor | None:
        """Logits after a piece (1, r, width) of the prompt; None when memory ran out, and less is to be tried at once."""
        try:
            return self._forward(piece, self._cache)
        except OutOfMemoryError:
            if piece.shape[1] <= LEAST_PREFILL:
                raise
        # Outside of the except block, where the traceback holds no tensors any more.
        self.prefill = max(LEAST_PREFILL, piece.shape[1] // 2)
        log.warning("memory ran out while reading the prompt: going on with %d rows at once", self.prefill)
        if self._cache is not None:
            cut_back(self._cache, done)  # layers that had taken the piece up already
        free_cached()
        return None

    def _forward(self, inputs: Tensor, cache, *, last_only: bool = True) -> Tensor:
        """inputs: ids (1, l) or embeddings (1, l, width) -> logits (l or 1, vocabulary) float32; keeps the new cache."""
        kind = "input_ids" if inputs.ndim == 2 else "inputs_embeds"
        keep = self._keep if last_only else {}
        with torch.inference_mode(), memory_guard("reading the prompt or writing the answer", REMEDY):
            output = self.model(**{kind: inputs, self._cache_name: cache}, use_cache=True, **keep)
        if cache is None:
            self._cache = getattr(output, self._cache_name)
        return output.logits[0].float()


def cache_name(parameters: Container[str]) -> str:
    """What a model's forward calls its cache: "cache" from transformers 5.24 on; until then state-space models had a name of
    their own."""
    return next((name for name in ("cache", "cache_params") if name in parameters), "past_key_values")


def cut_back(cache, length: int) -> None:
    """Make every layer of a cache forget what came after `length` tokens; some may have taken up more than others.

    Raises:
        RuntimeError: a layer keeps a window only, and what `length` needs is gone.
    """
    layers = getattr(cache, "layers", None)
    if layers is None:  # older versions of transformers keep no layers, and take the length itself
        cache.crop(length)
        return
    for layer in layers:
        if (surplus := int(layer.get_seq_length()) - length) > 0:
            layer.crop(-surplus)


def resolve_quant(quant: str, device: str, shapes: Mapping[str, Sequence[int]]) -> tuple[str, tuple[str, ...]]:
    """What "auto" comes to for a checkpoint whose tensors have these shapes, and what to tell the user when what was asked
    is not to be had. On a CPU: float32 for a small one, else nf4."""
    from math import prod

    if quant == "int4":
        raise UsageError("--quant int4 is the embedded language model's own", "use --quant nf4")
    if quant == "auto" and device == "cpu":
        small = sum(prod(shape) for shape in shapes.values()) < SMALL_MODEL
        return "fp32" if small else "nf4" if has_bitsandbytes() else "bf16", ()
    return available_quant(quant, device)


def available_quant(quant: str, device: str) -> tuple[str, tuple[str, ...]]:
    """The quant to use for the one asked, and what to tell the user when it is another. May stay "auto" on a CPU."""
    on_cpu = device == "cpu"
    if quant == "auto" and not on_cpu:
        quant = "nf4" if device.startswith("cuda") else "bf16"  # bitsandbytes has no kernels for other devices
    if quant not in ("nf4", "fp4", "int8") or has_bitsandbytes():
        return quant, ()
    best = "fp32" if on_cpu else "bf16"
    return best, (f"bitsandbytes is not installed, so {best} is used instead of {quant}: pip install bitsandbytes",)


def _load(source: Path | str, quant: str, device: str, adapter: Path | None):
    from safetensors import SafetensorError
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    # Progress and warnings are ours to give; bitsandbytes would write one a layer and token.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    options = {"dtype": {"bf16": torch.bfloat16, "fp32": torch.float32, "auto": "auto"}.get(quant, torch.float32)}
    if quant in ("nf4", "fp4", "int8"):
        options |= {"quantization_config": bitsandbytes_config(quant, device), "device_map": {"": device}}
        if device != "cpu":
            options["dtype"] = torch.bfloat16
    try:
        if adapter is None:
            options |= {"use_safetensors": True, "output_loading_info": True}
            model, report = AutoModelForCausalLM.from_pretrained(source, **options)
        else:
            config = AutoConfig.from_pretrained(source)
            state = merge_adapter(read_state(source), adapter)
            options |= {"config": config, "state_dict": state, "output_loading_info": True}
            model, report = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].from_pretrained(None, **options)
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        said = str(error).strip().splitlines()
        text = said[0] if said else type(error).__name__
        raise ModelError(f"{source} cannot be loaded ({text})", "check the name, the files and the network") from error
    except RuntimeError as error:
        if "mismatch" in str(error) or "shape" in str(error):
            raise ModelError(f"the weights in {source} do not fit its config.json", "get the model again") from error
        raise
    if missing := sorted(report["missing_keys"]):  # transformers would start them at random and go on
        raise ModelError(f"{source} lacks {len(missing)} weights ({missing[0]}, ...)", "get the model again")
    if quant in ("nf4", "fp4") and device == "cpu":
        unpack_odd_rows(model)
    return model.eval() if quant in ("nf4", "fp4", "int8") else model.to(device).eval()


def unpack_odd_rows(model) -> None:
    """Keep bitsandbytes from repacking layers that its AVX-512 kernel refuses: it wants rows in blocks of 32.

    Mamba2's in_proj (2 * inner + 2 * state + heads rows) is such a layer; it then takes the plain 4-bit path.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False) and module.out_features % 32:
            module.support_avx512bf16_for_cpu = False


def bitsandbytes_config(quant: str, device: str):
    """transformers' config for nf4, fp4 (double quantised) or int8."""
    from transformers import BitsAndBytesConfig

    if quant == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.float32 if device == "cpu" else torch.bfloat16
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=quant, bnb_4bit_compute_dtype=compute, bnb_4bit_use_double_quant=True
    )


def _load_tokenizer(source: Path | str, model) -> TransformersTokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"the tokenizer of {source} cannot be loaded", "get the model again") from error
    ids = {tokenizer.eos_token_id}
    for config in (model.generation_config, model.config):
        value = getattr(config, "eos_token_id", None)
        ids.update(value if isinstance(value, list) else [value])
    return TransformersTokenizer(tokenizer, frozenset(i for i in ids if isinstance(i, int)))


def _revision(source: Path | str, config, adapter: Path | None) -> str:
    identity = source_identity(source) if isinstance(source, Path) else [source, getattr(config, "_commit_hash", None)]
    parts = [identity, adapter_digest(adapter) if adapter else None]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
