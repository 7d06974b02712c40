"""The language model behind one protocol: embeddings in, an answer or the likelihood of given answers out."""

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mambamia_cli import models
from mambamia_cli.errors import ModelError, OutOfMemoryError, UsageError
from mambamia_cli.language.generation import Generation

log = logging.getLogger(__name__)

QUANTS = ("auto", "nf4", "fp4", "int4", "int8", "bf16", "fp32")
BACKENDS = ("auto", "fast", "transformers")
FAST_LIMIT = 2_000_000_000  # parameters up to which "auto" packs a model for the CPU decoder


class LanguageModel(Protocol):
    """width: of an embedding; context_length: tokens, prompt and answer together; quant: what is in use, never "auto"."""

    name: str
    revision: str
    width: int
    context_length: int
    quant: str
    device: str
    warnings: tuple[str, ...]

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text`, nothing added. With `special` false, "<|im_end|>" is ordinary characters."""

    def embed(self, text: str | Sequence[int]) -> Tensor:
        """Text or token ids -> input embeddings (l, width), float32, on the CPU."""

    def chat_text(self, user: str, system: str | None = None) -> str:
        """The model's chat template around one user message, up to where the answer begins."""

    def generate(
        self, embeds: Tensor, *, max_tokens: int = 256, stop: Sequence[str] = (), temperature: float = 0.0, seed: int = 0
    ) -> Generation:
        """embeds (l, width) -> an iterator over the answer's pieces, with `finish`, `text` and `tokens` afterwards.

        The prompt is read before this returns. A model writes one answer at a time: a later call ends an earlier one.
        Raises: UsageError for bad options or a prompt that does not fit, OutOfMemoryError.
        """

    def score(self, embeds: Tensor, continuations: Sequence[str], *, mean: bool = False) -> list[float]:
        """Log-probability of each continuation after the prefix (l, width): the sum over its tokens, or their mean.

        The prefix is read once. Raises: UsageError for an empty continuation or a prompt that does not fit.
        """


def load_language_model(
    name: str, *, quant: str = "auto", device: str = "cpu", adapter: Path | None = None, backend: str = "auto"
) -> LanguageModel:
    """An embedded model by name, a transformers folder, or a hub id.

    quant "auto" is nf4 on a GPU; on a CPU it is the fast decoder in 4 and 8 bits for Llama models of up to
    FAST_LIMIT parameters, else float32 or, for large models, bfloat16. `adapter` is merged before quantising.
    backend: "fast" (own CPU decoder) or "transformers", to compare them; "auto" chooses.

    Raises: UsageError for an unknown quant or backend, ModelError, DownloadError, OutOfMemoryError.
    """
    for value, known, option in ((quant, QUANTS, "--quant"), (backend, BACKENDS, "backend")):
        if value not in known:
            raise UsageError(f"{option} {value} is unknown", f"choose one of {', '.join(known)}")
    folder = local_folder(name)
    with memory_guard("loading the language model", "--quant nf4 or a smaller model"):
        if folder is not None and _use_fast(folder, quant, device, backend):
            from mambamia_cli.language.llama_lm import LlamaLanguageModel

            return LlamaLanguageModel(folder, name=name, quant=quant, adapter=adapter)
        if quant == "int4" or backend == "fast":
            raise UsageError(f"{name} cannot run in the fast CPU decoder", "use --quant nf4, which every model supports")
        from mambamia_cli.language.transformers_lm import TransformersLanguageModel

        return TransformersLanguageModel(folder or name, name=name, quant=quant, device=device, adapter=adapter)


def free_cached() -> None:
    """Return to the driver what a GPU's allocator keeps for later."""
    for kind in (torch.cuda, torch.xpu):
        if kind.is_available() and kind.is_initialized():
            kind.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def local_folder(name: str) -> Path | None:
    """The folder of an embedded or local model; None for a hub id."""
    if name in models.ENTRIES or Path(name).expanduser().exists():
        if name in models.ENTRIES and models.ENTRIES[name].kind != "language":
            raise ModelError(f"{name} is not a language model", f"choose one of {', '.join(models.names('language'))}")
        return models.resolve(name)
    if name.count("/") == 1 and not name.startswith(("/", ".", "~")):
        return None
    raise ModelError(
        f"there is no language model {name}",
        f"give a folder, a hub id (owner/name) or one of {', '.join(models.names('language'))}",
    )


def _use_fast(folder: Path, quant: str, device: str, backend: str) -> bool:
    if device != "cpu" or backend == "transformers" or quant in ("nf4", "fp4"):
        return False
    from mambamia_cli.language.fast_llama import parameter_count, unsupported
    from mambamia_cli.language.tokenizer import read_json

    config = read_json(folder / "config.json")
    if reason := unsupported(config):
        log.info("%s runs through transformers: %s", folder.name, reason)
        return False
    if not (folder / "tokenizer.json").is_file():
        log.info("%s runs through transformers: it has no tokenizer.json", folder.name)
        return False
    return backend == "fast" or quant == "int4" or parameter_count(config) <= FAST_LIMIT


def describe_quant(wanted: str, device: str) -> str:
    """What `--quant wanted` means for the embedded model on this machine and why, in one line for `mambamia doctor`."""
    from mambamia_cli.language.transformers_lm import available_quant

    if device == "cpu" and wanted not in ("nf4", "fp4"):
        if wanted != "auto":
            return f"{wanted} (asked for; own CPU decoder)"
        from mambamia_cli.language.llama_lm import fastest_quant

        return f"{fastest_quant()} (measured fastest on this CPU; own decoder, answers as in fp32)"
    chosen, warnings = available_quant(wanted, device)
    why = warnings[0] if warnings else "the default on a GPU" if wanted == "auto" else "asked for"
    return f"{chosen} ({why})"


def has_bitsandbytes() -> bool:
    """Whether bitsandbytes is installed (not whether it runs: that shows when it is used)."""
    return importlib.util.find_spec("bitsandbytes") is not None


def check_prompt(embeds: Tensor, width: int, context_length: int, max_tokens: int) -> int:
    """Check (l, width) embeddings against the context; returns how many tokens the answer may have."""
    if embeds.ndim != 2 or embeds.shape[0] == 0 or embeds.shape[1] != width:
        raise UsageError(f"prompt embeddings have shape {tuple(embeds.shape)}", f"give (length, {width}), length >= 1")
    if embeds.shape[0] >= context_length:
        raise UsageError(
            f"the prompt has {embeds.shape[0]} tokens and the model's context {context_length}", "lower --token-budget"
        )
    return min(max_tokens, context_length - embeds.shape[0])


@contextmanager
def memory_guard(doing: str, remedy: str) -> Iterator[None]:
    """Turn every form in which memory runs out into OutOfMemoryError."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError(f"memory ran out while {doing}", f"try {remedy}") from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise OutOfMemoryError(f"memory ran out while {doing}", f"try {remedy}") from error
        raise
