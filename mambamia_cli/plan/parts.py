"""A model's parts by name -> their sizes: a MambaMia folder, or a vision tower and a language model put together.

Order for each part: the embedded models, a folder, the hub's cache, the table of public models, the hub itself. Only
config.json, preprocessor_config.json, an index and safetensors headers are read.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.errors import ModelError
from mambamia_cli.language.unimambamia.config import read_config
from mambamia_cli.models import hub, vlm
from mambamia_cli.models.checkpoint import PICKLED
from mambamia_cli.models.folder import read_folder
from mambamia_cli.models.kinds import EYE, VLM, ModelKind
from mambamia_cli.models.registry import ENTRIES, resolve
from mambamia_cli.plan import known, relative
from mambamia_cli.plan.answering import Projection
from mambamia_cli.plan.headers import Entry, entries
from mambamia_cli.plan.relative import RelativeSizes
from mambamia_cli.plan.seeing import AROUND, SightSizes, beside, completed, sight_sizes
from mambamia_cli.plan.sizes import LanguageSizes, UnknownSizes, VisionSizes, language_sizes, vision_sizes
from mambamia_cli.plan.watching import LITE0_PARAMETERS

EMBEDDED_VISION, EMBEDDED_LANGUAGE = "efficientnet-lite0", "smollm2-135m-instruct"
LITE0 = VisionSizes(EMBEDDED_VISION, "efficientnet", LITE0_PARAMETERS, 16, 432, 0, 224, 224, 7, 7, embedded=True)
HUB_SECONDS = 1.0  # for a config.json that is nowhere on this machine; a plan is to take less than two


@dataclass(frozen=True)
class Parts:
    """What a plan is made of. `budget`: the model's own token budget. `local`: the language model's files are here.

    An image-text-to-text model has `sight` in place of a projection, and is planned for frames of one size; vision and
    compressor are then the embedded model's, which pick the frames. UniMambaMia has `relative` in place of both, and answers
    without a look at the video; vision and compressor mark its scenes."""

    name: str
    vision: VisionSizes
    compressor: CompressorConfig
    projection: Projection | None
    language: LanguageSizes
    budget: int | None = None
    local: bool = False
    sight: SightSizes | None = None
    relative: RelativeSizes | None = None
    spotter: int = 0
    """Parameters of what reads the views of second looks."""
    overlap: int | None = None
    """Frames that windows of the compressor share, where fewer than usual do for its weights."""

    @property
    def each(self) -> int:
        """Visual tokens a frame."""
        if self.relative is not None:
            return self.relative.config.frame_tokens
        return self.sight.tokens if self.sight is not None else self.projection.each

    @property
    def around(self) -> int:
        """Tokens of a frame beside these; 0 = those of its time in seconds."""
        return AROUND if self.sight is not None else 0


def of_folder(folder: Any) -> Parts:
    """Parts of a models.folder.ModelFolder. Raises ModelError for a part that is not to be found or has no sizes."""
    compressor = CompressorConfig.load(folder.part("compressor") / "config.json")
    projector = _json(folder.part("projector") / "config.json")
    try:
        framewise = projector.get("mode", "frame") == "frame"
        projection = Projection(projector["input_width"], projector["anchors"], projector["hidden_width"], projector["output_width"],
                                projector["tokens_per_frame"], framewise)  # fmt: skip
    except KeyError as error:
        raise ModelError(f"the projector's config.json in {folder.path} lacks {error}", "fetch or train the model again") from None
    language, local = language_part(folder.language_model)
    spotter = sum(entry.elements for entry in _entries(folder.spotter))
    return Parts(folder.name, vision_part(folder.vision), compressor, projection, language, folder.token_budget, local, spotter=spotter, overlap=folder.overlap)


def of_names(vision_name: str, language_name: str) -> Parts:
    """The paper's compressor between a tower and a language model: a model that nobody has trained yet can be planned."""
    vision, (language, local) = vision_part(vision_name), language_part(language_name)
    paper = CompressorConfig.paper()
    compressor = dataclasses.replace(paper, vision_width=vision.hidden, grid_rows=vision.rows, patches_per_row=vision.columns,
                                     output_size=language.width)  # fmt: skip
    projection = Projection(language.width, vision.rows, language.width, language.width, vision.rows, False)
    return Parts(f"{vision_name} + {language_name}", vision, compressor, projection, language, None, local)


def of_kind(kind: ModelKind, picture: tuple[int, int], longest: int | None = None, *, hear: bool = True) -> Parts:
    """Parts of a model that is not native; picture and longest as in of_vlm. Of a hub id that is not in the cache nothing is
    fetched but its configurations and the headers of its weights. Raises ModelError, UnknownSizes."""
    folder, found = kind.path, None
    if folder is None:
        try:
            folder = hub.fetch(kind.name, download=False)
        except ModelError:
            folder, headers = hub.outline(kind.name)
            found = [Entry(name, shape, dtype) for name, (shape, dtype) in headers.items()]
    if kind.kind == VLM:
        return of_vlm(kind.name, folder, kind.config, picture, longest, found)
    return of_relative(kind.name, folder, kind.config, found, hear=hear)


def of_vlm(name: str, folder: Path, config: dict[str, Any], picture: tuple[int, int], longest: int | None = None,
           found: list[Entry] | None = None) -> Parts:  # fmt: skip
    """Parts of an image-text-to-text model for frames of a video of `picture` (height, width), shown with a longer side of
    `longest` pixels at most. `found`: its tensors, where its weights are not in the folder. Raises ModelError for missing or
    damaged files, UnknownSizes."""
    found, pictures = _present(folder) if found is None else found, vlm.picture_config(folder, name)
    if not found:
        raise UnknownSizes(f"the weights of {name} have no safetensors headers to plan with", "convert them to safetensors")
    if not config.get("vision_config"):
        raise UnknownSizes(f"the config.json of {name} does not give the size of its pictures", "fetch the model again")
    config = completed(config, found)
    size = vlm.picture_size(str(config.get("model_type")), *picture, longest) or picture
    sight = sight_sizes(name, config, pictures, vlm.processor_config(folder), found, size)
    language = language_sizes(name, config, [entry for entry in found if not beside(entry.name)])
    eye = read_folder(EYE)
    compressor = CompressorConfig.load(eye.part("compressor") / "config.json")
    return Parts(name, vision_part(eye.vision), compressor, None, language, min(vlm.TOKEN_BUDGET, language.context), True, sight, overlap=eye.overlap)


def of_relative(name: str, folder: Path, config: dict[str, Any], found: list[Entry] | None = None, *, hear: bool = True) -> Parts:
    """Parts of a UniMambaMia checkpoint; `found` as in of_vlm. Raises as that does."""
    sizes, language = relative.sizes_of(name, read_config(folder, config, hear=hear), _present(folder) if found is None else found)
    eye = read_folder(EYE)
    compressor = CompressorConfig.load(eye.part("compressor") / "config.json")
    return Parts(name, vision_part(eye.vision), compressor, None, language, None, True, relative=sizes, overlap=eye.overlap)


def _present(folder: Path) -> list[Entry]:
    """The tensors of a folder's safetensors. Raises ModelError when a file of theirs is missing, and there are no pickles."""
    for file in hub.weight_files(folder):
        if not (folder / file).is_file() and not any(any(folder.glob(pattern)) for pattern in PICKLED):
            raise ModelError(f"{folder} lacks {file}", "fetch the model again")
    return entries(folder)


def vision_part(name: str) -> VisionSizes:
    if name == EMBEDDED_VISION:
        return LITE0
    config, folder = _config(name, known.VISION, "vision tower")
    preprocess = _json(folder / "preprocessor_config.json", missing_ok=True) if folder else None
    return vision_sizes(name, config, preprocess, _entries(folder))


def language_part(name: str) -> tuple[LanguageSizes, bool]:
    """-> sizes, and whether its files are on this machine."""
    if name in ENTRIES:
        try:
            folder: Path | None = resolve(name, download=False)
        except ModelError:  # not pulled yet: its sizes are known all the same
            folder = None
        config = _json(folder / "config.json") if folder else known.find(known.LANGUAGE, name)
        if config is None:
            raise ModelError(f"{name} is not a language model", f"use {EMBEDDED_LANGUAGE}")
        return language_sizes(name, config, _entries(folder)), True
    config, folder = _config(name, known.LANGUAGE, "language model")
    found = _entries(folder)
    return language_sizes(name, config, found), bool(found)


def _entries(folder: Path | None) -> list[Entry]:
    return entries(folder) if folder else []


def _config(name: str, table: dict[str, dict[str, Any]], what: str) -> tuple[dict[str, Any], Path | None]:
    """-> config.json of a name and the folder it lies in, None where only the table knows it."""
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return _json(path / "config.json"), path
    if path.is_dir() or name.startswith((".", "/", "~")):
        raise ModelError(f"there is no {what} in {name}", "give the folder that holds its config.json")
    if (cached := _from_hub(name, online=False)) is not None:
        return _json(cached), cached.parent
    if (public := known.find(table, name)) is not None:
        return public, None
    if name.count("/") == 1 and (fetched := _from_hub(name, online=True)) is not None:
        return _json(fetched), fetched.parent
    shown = ", ".join(full.partition("/")[2] for full in list(table)[:4])
    raise UnknownSizes(f"the sizes of the {what} {name} are not to be had here", f"give its folder, or a public one such as {shown}")


def _from_hub(name: str, *, online: bool) -> Path | None:
    """config.json of a hub id from the cache, or from the hub itself; None when it cannot be had."""
    if name.count("/") != 1:
        return None
    if not online:
        cache = os.environ.get("HF_HUB_CACHE") or os.path.join(
            os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"), "hub")
        # The hub's own layout, read without importing its package, which takes half a second.
        found = sorted(Path(cache, f"models--{name.replace('/', '--')}", "snapshots").glob("*/config.json"))
        return max(found, key=lambda p: p.stat().st_mtime) if found else None
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, "config.json", etag_timeout=HUB_SECONDS))
    except Exception:  # noqa: BLE001  (whatever the network does, the answer is: not to be had)
        return None


def _json(path: Path, *, missing_ok: bool = False) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("no JSON object")
        return found
    except FileNotFoundError:
        if missing_ok:
            return {}
        raise ModelError(f"{path} is missing", "get the model again") from None
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error})", "get the model again") from None


