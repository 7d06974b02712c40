"""Weights of an image-text-to-text model -> a module of transformers. Safetensors only, unless pickles are trusted.

Only the language part is quantised: towers and projectors are small, and what they see should not be blurred.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mambamia_cli.errors import ModelError
from mambamia_cli.language.model import memory_guard
from mambamia_cli.language.transformers_lm import bitsandbytes_config, unpack_odd_rows
from mambamia_cli.models.checkpoint import Checkpoint

PACKED = ("nf4", "fp4", "int8")
_LANGUAGE = ("language_model", "text_model")  # what transformers calls the part that speaks


def read_config(folder: Path, name: str) -> Any:
    """transformers' configuration.

    Raises:
        ModelError: an architecture that the installed transformers does not know, or that does not read pictures in a prompt.
    """
    import transformers
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder)
        known = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        if "does not recognize" in str(error) or isinstance(error, KeyError):
            raise _unknown(name, folder, transformers.__version__) from error
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"the config.json of {name} makes no model ({said})", "fetch the model again") from error
    if not known:
        raise _unknown(name, folder, transformers.__version__)
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False) or getattr(text, "cross_attention_layers", None):
        raise ModelError(f"{name} ({config.model_type}) does not take frames between the words of a prompt",
                         "use one that does, such as Qwen2.5-VL, SmolVLM2, LLaVA-OneVision or Gemma 3")  # fmt: skip
    return config


def _unknown(name: str, folder: Path, version: str) -> ModelError:
    from mambamia_cli.language.tokenizer import read_json

    kind = read_json(folder / "config.json").get("model_type")
    return ModelError(f"transformers {version} does not know {name} ({kind}) as an image-text-to-text model", "pip install -U transformers, or use another model")


def load(folder: Path, config: Any, *, name: str, quant: str, device: str, allow_pickle: bool = False) -> nn.Module:
    """quant: as resolved, never "auto".

    Raises:
        ModelError: shards or tensors that are missing, damaged or of another shape; pickles that are not trusted.
        OutOfMemoryError.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging as transformers_logging

    # Progress and warnings are ours to give; bitsandbytes would write one a layer and token.
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    checkpoint = Checkpoint(folder, allow_pickle=allow_pickle)
    checkpoint.shapes()  # a damaged shard is named
    half = torch.float32 if device == "cpu" else torch.bfloat16
    options: dict[str, Any] = {"dtype": {"fp32": torch.float32, "bf16": torch.bfloat16}.get(quant, half)}
    if quant in PACKED:
        packing = bitsandbytes_config(quant, device)
        packing.llm_int8_skip_modules = _kept_whole(config)
        options |= {"quantization_config": packing, "device_map": {"": device}}
    options |= {"use_safetensors": not checkpoint.pickled, "output_loading_info": True, "trust_remote_code": False}
    if checkpoint.pickled:
        options["weights_only"] = True
    try:
        with memory_guard("loading the model", "--quant nf4 or a smaller model"):
            model, report = AutoModelForImageTextToText.from_pretrained(folder, config=config, **options)
            _check(report, name)
            if quant in PACKED:
                if device == "cpu":
                    unpack_odd_rows(model)
                return model.eval()
            return model.to(device).eval()
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"{name} cannot be loaded ({said})", "fetch the model again, or use another") from error
    except RuntimeError as error:
        if "mismatch" in str(error) or "shape" in str(error):
            raise ModelError(f"the weights of {name} do not fit its config.json", "fetch the model again") from error
        raise


def _check(report: dict[str, Any], name: str) -> None:
    """transformers would start what is missing at random and go on."""
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"the weights of {name} lack {missing[0]}{more}", "fetch the model again")
    if report.get("mismatched_keys"):
        raise ModelError(f"the weights of {name} do not fit its config.json", "fetch the model again")


def _kept_whole(config: Any) -> list[str]:
    """Modules beside the language part, by name, and the head: an empty model is made to ask it."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForImageTextToText

    with init_empty_weights():
        model = AutoModelForImageTextToText.from_config(config)
    names = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in _LANGUAGE]
    kept, parent, at = ["lm_head"], "", model
    for step in names[0].split(".") if names else []:
        kept += [parent + other for other, _ in at.named_children() if other != step]
        parent, at = f"{parent}{step}.", getattr(at, step)
    return sorted(set(kept))
