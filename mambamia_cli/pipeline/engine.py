"""The models of a run: loaded when first needed, once, and shared by all its videos."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.errors import ModelError, UsageError
from mambamia_cli.models.checkpoint import Checkpoint
from mambamia_cli.models.folder import ModelFolder, read_folder
from mambamia_cli.models.kinds import EYE, NATIVE, UNIMAMBAMIA, VLM, kind_of
from mambamia_cli.pipeline.backoff import give_back
from mambamia_cli.plan.estimate import Settings
from mambamia_cli.plan.limits import Limits, detected_device, limits_of
from mambamia_cli.plan.parts import Parts, of_folder, of_kind, vision_part
from mambamia_cli.plan.sizes import UnknownSizes
from mambamia_cli.scenes.peaks import PeakRule

if TYPE_CHECKING:
    from mambamia_cli.compressor.model import MambaMiaCompressor
    from mambamia_cli.language.lexicon import Lexicon
    from mambamia_cli.language.matching import MatchRule
    from mambamia_cli.language.projector import Projector
    from mambamia_cli.language.spotter import Spotter
    from mambamia_cli.pipeline.answerers import Answerer

log = logging.getLogger(__name__)
_STAGES = {"watch": ("encoder", "int8_encoder", "compressor", "rounded_compressor"), "answer": ("answerer", "language", "lexicon", "projector", "spotter")}
Progress = Callable[[str, float, float | None], None]
"""Called with (stage, done, total); seconds of video, or a count. total None = not known."""

LOADING = "loading the "
"""How the stages begin in which weights are loaded: from (0, None) to (1, 1)."""


class Models:
    """Vision encoder and compressor, and what answers from what they saw, on one device.

    `kind` says what the model is. A native one has all parts; where one of another kind has no compressor, `folder` is the
    embedded model's, whose delta marks scenes and picks frames.
    Vision and compressor are for the stage "watch", projector, lexicon and language model for "answer". Where `settings`
    (which a Video solves from the limits) does not keep them together, `enter` makes the other stage's leave the device.
    `load_s` holds the seconds that loading each took. Raises ModelError for a bad folder here and for bad weights when
    they are loaded; UsageError for a device that is not there or a limit that is no size.
    """

    def __init__(
        self, model: str = "mambamia-tiny", *, device: str = "auto", quant: str = "auto",
        threads: int | None = None, seed: int = 0, progress: Progress | None = None,
        vram_limit: str | None = None, ram_limit: str | None = None, hear: bool = True, allow_pickle: bool = False,
        frame_size: int | None = None,
    ):  # fmt: skip
        self.kind = kind_of(model)
        self.folder: ModelFolder = read_folder(model if self.kind.kind == NATIVE else EYE)
        self.name = self.folder.name if self.kind.kind == NATIVE else model
        self.hear, self.allow_pickle, self.frame_size = hear, allow_pickle, frame_size
        self.rule = PeakRule.from_config(self.folder.scenes)
        self.quant, self.threads, self.seed = quant, threads, seed
        self.load_s: dict[str, float] = {}
        self._wanted, self._progress = device, progress or (lambda stage, done, total: None)
        self._limits_given = (vram_limit, ram_limit)
        self.settings = Settings(together=True)

    @cached_property
    def device(self) -> str:
        """What "auto" comes to: the first GPU, else the CPU."""
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        return pick_device(self._wanted)

    @property
    def overlap(self) -> int:
        """Frames that a window of the compressor shares with the next."""
        return self.settings.overlap(self.folder.overlap)

    @property
    def on_cpu(self) -> bool:
        """Whether the CPU computes, probably so before the device is known. Imports no torch."""
        return self.__dict__.get("device", detected_device() if self._wanted == "auto" else self._wanted) == "cpu"

    @property
    def picture(self) -> tuple[int, int] | None:
        """Pixels (height, width) of a frame as the vision encoder takes it. Nothing is loaded; None where that does not tell."""
        if self.kind.kind != NATIVE:
            vision = vision_part(self.folder.vision)  # the embedded one
        elif self.parts is None:
            return None
        else:
            vision = self.parts.vision
        return vision.height, vision.width

    @cached_property
    def parts(self) -> Parts | None:
        """Sizes of everything, from configs and headers: damaged ones are refused before an hour of frames is looked at.
        None for an architecture that the plan does not know, and for other kinds of model (`parts_for` has theirs)."""
        if self.kind.kind != NATIVE:
            return None
        return self._planned(lambda: of_folder(self.folder))

    def parts_for(self, picture: tuple[int, int]) -> Parts | None:
        """`parts`; those of an image-text-to-text model depend on the video's (height, width). Of a hub id that is not in the
        cache only headers are fetched for it, so that what cannot fit is refused before it comes."""
        if self.kind.kind == NATIVE:
            return self.parts
        kind = replace(self.kind, path=self.path) if self.allow_pickle else self.kind  # pickles have no headers
        if kind.path is not None:
            Checkpoint(kind.path, allow_pickle=self.allow_pickle)  # a missing shard, or a pickle, is refused before the video is looked at
        return self._planned(lambda: of_kind(kind, picture, self.frame_size, hear=self.hear))

    def _planned(self, count: Callable[[], Parts]) -> Parts | None:
        try:
            return count()
        except UnknownSizes as error:
            log.info("this run is not planned: %s", error.message)
            return None

    @cached_property
    def path(self) -> Path:
        """The folder of a model that is not native; of a hub id it is fetched."""
        from mambamia_cli.models import hub

        return self.kind.path or hub.fetch(self.name, allow_pickle=self.allow_pickle)

    @cached_property
    def limits(self) -> Limits:
        """--vram-limit and --ram-limit, else what the device and the machine have free, taken before anything is loaded."""
        kind = self.device.partition(":")[0]
        vram, ram = self._limits_given
        return limits_of(vram, ram, kind, card=free_memory(self.device))

    def enter(self, stage: str) -> None:
        """Make room for "watch" or "answer": where weights take turns, those of the other stage leave the device."""
        if self.settings.together:
            return
        loaded = [self.__dict__.pop(name) for name in _STAGES["answer" if stage == "watch" else "watch"] if name in self.__dict__]
        if loaded:
            del loaded
            give_back()

    @cached_property
    def half(self) -> Any:
        """What vision and compressor compute in: bfloat16 on a CUDA GPU, else float32."""
        import torch

        return torch.bfloat16 if self.device.startswith("cuda") else torch.float32

    @cached_property
    def compressor_config(self) -> CompressorConfig:
        """The compressor's sizes, whether or not it is loaded."""
        return CompressorConfig.load(self.folder.part("compressor") / "config.json")

    @cached_property
    def encoder(self) -> Any:
        return self._encoder()

    @cached_property
    def int8_encoder(self) -> Any:
        """The encoder in 8-bit integers, twice as fast; the other one where this CPU or this encoder does not do that."""
        from mambamia_cli.vision.encoder import runs_in_int8

        return self._encoder("int8 encoder", int8=True) if runs_in_int8(self.folder.vision, self.device) else self.encoder

    def lookers(self, *, keep_anchors: bool, closely: bool) -> tuple[Any, "MambaMiaCompressor"]:
        """Encoder and compressor of a look: a close one of which no anchor is kept does with fewer bits. See pipeline.index.watch."""
        if closely and not keep_anchors:
            return self.int8_encoder, self.rounded_compressor
        return self.encoder, self.compressor

    def _encoder(self, name: str = "encoder", **precision: bool) -> Any:
        from mambamia_cli.vision.encoder import load_encoder

        encoder = self._load(name, lambda: load_encoder(
            self.folder.vision, device=self.device, threads=self.threads, dtype=self.half, **precision))  # fmt: skip
        config = self.compressor_config
        wanted = ((config.grid_rows, config.patches_per_row), config.vision_width)
        if (tuple(encoder.grid), encoder.width) != wanted:
            raise ModelError(
                f"the compressor of {self.folder.name} takes a grid of {wanted[0]} patches {wanted[1]} wide and the encoder "
                f"{encoder.name} gives {tuple(encoder.grid)} patches {encoder.width} wide",
                "use the encoder that the model was trained with",
            )
        return encoder

    @cached_property
    def compressor(self) -> "MambaMiaCompressor":
        return self._compressor()

    def _compressor(self, name: str = "compressor") -> "MambaMiaCompressor":
        from mambamia_cli.compressor.model import MambaMiaCompressor

        return self._load(name, lambda: MambaMiaCompressor.from_pretrained(
            self.folder.part("compressor"), device=self.device, dtype=self.half))  # fmt: skip

    @cached_property
    def rounded_compressor(self) -> "MambaMiaCompressor":
        """The compressor with stage 1's projections in bfloat16; the other one where this CPU does not multiply that."""
        if self.device != "cpu" or not multiplies_bfloat16():
            return self.compressor
        return self._compressor("rounded compressor").round_projections()

    @cached_property
    def projector(self) -> "Projector":
        from mambamia_cli.language.projector import Projector

        projector = self._load("projector", lambda: Projector.from_pretrained(self.folder.part("projector")).to(self.device))
        config, compressor = projector.config, self.compressor_config
        if (config.input_width, config.anchors) != (compressor.anchor_width, compressor.grid_rows):
            raise ModelError(
                f"the projector of {self.folder.name} takes {config.anchors} anchors {config.input_width} wide and its compressor "
                f"gives {compressor.grid_rows} anchors {compressor.anchor_width} wide",
                "fetch or train the model again",
            )
        return projector

    @cached_property
    def answerer(self) -> "Answerer":
        """What answers from kept frames; see pipeline.answerers."""
        from mambamia_cli.pipeline import answerers

        if self.kind.kind == NATIVE:
            return answerers.NativeAnswerer(self)
        path = self.path
        options = {"name": self.name, "quant": self.quant, "device": self.device, "allow_pickle": self.allow_pickle}
        if self.kind.kind == UNIMAMBAMIA:
            from mambamia_cli.language.unimambamia.model import UniMambaMia

            heard = self._load("model", lambda: UniMambaMia(path, self.kind.config, hear=self.hear, turns=not self.settings.together, **options))
            heard.lm.prefill = self.settings.prefill
            return answerers.RelativeAnswerer(heard)
        from mambamia_cli.language.vlm.model import VisionLanguageModel

        shown = self._load("model", lambda: VisionLanguageModel(path, self.kind.config, **options))
        shown.prefill = self.settings.prefill
        return answerers.ShownAnswerer(shown, self.frame_size)

    @cached_property
    def language(self) -> Any:
        """The language model: a native one's own, else the part of the answerer that speaks."""
        from mambamia_cli.language.model import load_language_model

        if self.kind.kind != NATIVE:
            return self.answerer.language
        name, width = self.folder.language_model, self.projector.config.output_width
        model = self._load("language model", lambda: load_language_model(
            name, quant=self.quant, device=self.device, adapter=self.folder.adapter))  # fmt: skip
        model.prefill = self.settings.prefill
        if model.width != width:
            raise ModelError(
                f"the projector of {self.folder.name} makes tokens {width} wide and {name} takes tokens {model.width} wide",
                "use the language model that it was trained with",
            )
        return model

    @cached_property
    def match(self) -> "MatchRule":
        """How matches of words come to probabilities."""
        from mambamia_cli.language.matching import MatchRule

        return MatchRule.from_config(self.folder.evidence)

    @cached_property
    def finder(self) -> "Models":
        """What finds things by their words: these models, or the embedded one where an image-text-to-text model was given,
        whose frames the embedded compressor has looked at already."""
        if self.kind.kind != VLM:
            return self
        return Models(EYE, device=self._wanted, threads=self.threads, seed=self.seed, progress=self._progress)

    @property
    def has_lexicon(self) -> bool:
        """Whether things can be found by their words; nothing is loaded."""
        return self.kind.kind == NATIVE and self.folder.lexicon is not None

    @cached_property
    def lexicon(self) -> "Lexicon | None":
        """The words that visual tokens were trained to land on; None when the model has no such part."""
        from mambamia_cli.language.lexicon import Lexicon, word_point

        if not self.has_lexicon:
            return None
        language = self.language
        return Lexicon.from_pretrained(self.folder.lexicon, lambda word: word_point(word, language.tokenize, language.embed))

    @cached_property
    def spotter(self) -> "Spotter | None":
        """What reads the views of a second look; None when the model has no such part: compressor and projector then do."""
        from mambamia_cli.language.spotter import Spotter

        folder = self.folder.spotter if self.has_lexicon else None
        if folder is None:
            return None
        spotter = self._load("spotter", lambda: Spotter.from_pretrained(folder).to(self.device))
        config, seen, width = spotter.config, self.compressor_config, self.projector.config.output_width
        patches = seen.grid_rows * seen.patches_per_row
        if (config.patches, config.vision_width, config.output_width) != (patches, seen.vision_width, width):
            raise ModelError(
                f"the spotter of {self.folder.name} makes tokens {config.output_width} wide of {config.patches} patches {config.vision_width} wide, "
                f"its compressor takes {patches} patches {seen.vision_width} wide and its projector's tokens are {width} wide",
                "fetch or train the model again",
            )
        return spotter

    def _load(self, name: str, load: Callable[[], Any]) -> Any:
        stage, began = LOADING + name, time.perf_counter()
        self._progress(stage, 0, None)
        loaded = load()
        self._progress(stage, 1, 1)
        self.load_s[name] = time.perf_counter() - began
        return loaded


def pick_device(wanted: str) -> str:
    """"auto", "cpu", "cuda", "cuda:1", "xpu", "xpu:1" or "mps" -> a device that is there.

    Raises:
        UsageError: it is not there.
    """
    import torch

    cuda, xpu, mps = torch.cuda.is_available(), torch.xpu.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if cuda else "xpu" if xpu else "mps" if mps else "cpu"
    kind, _, number = wanted.partition(":")
    there = {"cpu": True, "cuda": cuda and int(number or 0) < torch.cuda.device_count(),
             "xpu": xpu and int(number or 0) < torch.xpu.device_count(), "mps": mps}  # fmt: skip
    if not there.get(kind, False):
        raise UsageError(f"--device {wanted} is not on this machine", "use --device auto or cpu")
    return wanted


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for products of bfloat16, as far as torch tells (2.11 and newer do)."""
    import torch

    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def free_memory(device: str) -> int | None:
    """Bytes free on a CUDA or XPU device; None where the driver does not say."""
    import torch

    kind = device.partition(":")[0]
    try:
        return getattr(torch, kind).mem_get_info(torch.device(device))[0] if kind in ("cuda", "xpu") else None
    except (RuntimeError, AttributeError):
        return None
