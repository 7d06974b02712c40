"""Models of the Hugging Face hub: only what is read is fetched, and never a pickle unless it was asked for.

huggingface_hub is imported when a hub id was given, and only then: a name of ours or a folder needs no network and none of
its start-up time. Its own cache and environment variables (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT) apply.
"""

import json
import logging
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from mambamia_cli.errors import ModelError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*[A-Za-z0-9_]")
_TEXTS = ("*.json", "*.txt", "*.jinja", "*.model", "*.md")
"""Configurations, tokenizers and chat templates: all that is needed beside weights, and small."""
_CONFIGS = ("*config.json", "*.index.json")
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model*.bin",)
_NO_CONFIG = "config.json", "give a model, not a data set or a collection of files"
_NO_WEIGHTS = "safetensors weights", "choose another copy of it, or trust it with --allow-pickle"


def local(name: str) -> bool:
    """Whether a name can only mean something on this machine: a path that exists, or no hub id by its form."""
    return Path(name).expanduser().exists() or _ID.fullmatch(name) is None


def config_file(name: str) -> Path:
    """The config.json of a hub id, from the cache, else from the network. Raises ModelError."""
    try:
        return _asked(name, lambda hub: hub.hf_hub_download(name, "config.json", local_files_only=True))
    except ModelError:
        _check_network(name)
        return _asked(name, lambda hub: hub.hf_hub_download(name, "config.json"))


def fetch(name: str, *, download: bool = True, renew: bool = False, allow_pickle: bool = False) -> Path:
    """The folder of a hub id with its texts and weights.

    What is whole in the cache is used as it is, without asking the network, unless `renew`. Texts come first: they say
    which weight files belong to the model; others of the repository (the same weights in other formats) stay where they are.
    `allow_pickle`: .bin weights where there are no safetensors.

    Raises:
        ModelError: no such model, no safetensors weights, no network and not in the cache.
    """
    if not renew:
        try:
            folder = _snapshot(name, _TEXTS, False)
            if _whole(folder, allow_pickle):
                return folder
        except ModelError:
            pass
    if not download:
        raise ModelError(f"{name} is not in the cache", f"run: mambamia models pull {name}")
    _check_network(name)
    folder = _snapshot(name, _TEXTS, True)
    folder = _snapshot(name, [*_TEXTS, *weight_files(folder)], True)
    if not _whole(folder, False):
        if not allow_pickle:
            raise ModelError(f"{name} has no {_NO_WEIGHTS[0]}", _NO_WEIGHTS[1])
        folder = _snapshot(name, [*_TEXTS, *PICKLES], True)
    return folder


def outline(name: str) -> tuple[Path, dict[str, tuple[tuple[int, ...], str]]]:
    """A hub id whose weights are not here: the folder of its configurations, and of each tensor its shape and type. Of the
    weights only the headers are fetched.

    Raises:
        ModelError: no such model, no safetensors weights, no network.
    """
    _check_network(name)
    folder = _snapshot(name, _CONFIGS, True)
    files, found = weight_files(folder), {}

    def read(hub: Any) -> str:
        with ThreadPoolExecutor(8) as pool:
            for header in pool.map(lambda file: hub.HfApi().parse_safetensors_file_metadata(name, file), files):
                found.update({tensor: (tuple(info.shape), str(info.dtype)) for tensor, info in header.tensors.items()})
        return str(folder)

    return _asked(name, read, lacks=_NO_WEIGHTS), found


def weight_files(folder: Path) -> list[str]:
    """The safetensors files that belong to a model, by its texts; a MambaMia folder keeps each part's in a folder of its own.

    Raises:
        ModelError: the index of shards is damaged.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return sorted({str(file) for file in index["weight_map"].values()})
    except FileNotFoundError:
        parts = sorted(path.parent.name for path in folder.glob("*/config.json"))
        return [f"{part}/model.safetensors" for part in parts] if _is_native(folder) else ["model.safetensors"]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"the index of weights in {folder} cannot be read ({error})", "fetch the model again") from error


def _is_native(folder: Path) -> bool:
    try:
        return "format" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _whole(folder: Path, allow_pickle: bool) -> bool:
    files = weight_files(folder)
    if files and all((folder / file).is_file() for file in files):
        return True
    return allow_pickle and any(any(folder.glob(pattern)) for pattern in PICKLES)


def _snapshot(name: str, patterns: Sequence[str], download: bool) -> Path:
    return _asked(name, lambda hub: hub.snapshot_download(name, allow_patterns=list(patterns), local_files_only=not download))


def _check_network(name: str) -> None:
    """Say at once that the hub's name cannot be looked up: its client would try for half a minute."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    if constants.HF_HUB_OFFLINE:
        raise _absent(name)
    if host is None or getproxies().get("https") or getproxies().get("http"):
        return  # then the name is the proxy's to look up
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise _absent(name) from error


def _asked(name: str, ask: Callable[[Any], str], lacks: tuple[str, str] = _NO_CONFIG) -> Path:
    """What the hub's client answers, with each of its many errors as one sentence. `lacks`: what is not there when a file is not, and what to do."""
    import huggingface_hub
    from huggingface_hub import errors
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it would tell of each of its attempts
    try:
        return Path(ask(huggingface_hub))
    except errors.GatedRepoError as error:
        raise ModelError(f"{name} is given only to those who accepted its licence", "accept it on its page and set HF_TOKEN") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"there is no model {name}, neither a folder nor on the hub", "check the name; a private one needs HF_TOKEN") from error
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise _absent(name) from error
        raise ModelError(f"{name} on the hub has no {lacks[0]}", lacks[1]) from error
    except Exception as error:  # its transport's errors are many, and not all are its own or OSErrors
        raise _absent(name) from error


def _absent(name: str) -> ModelError:
    return ModelError(f"{name} is not a folder, not in the cache, and the hub cannot be reached", "check the network, or fetch it elsewhere and give its folder")
