"""Frames, times and a question -> what an image-text-to-text model reads: token ids, and pictures as it wants them.

The model's own processor does the work: its chat template, its tokenizer, its image processor. Of image processors that
without torchvision is taken, so that torchvision is not needed; of video processors none, because frames are pictures here.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mambamia_cli.errors import ModelError
from mambamia_cli.language.prompt import frame_clock
from mambamia_cli.models.vlm import REMEDY, overrides, picture_config

_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
_PACKAGES = ("torchvision", "num2words", "sentencepiece", "tiktoken", "timm")  # that processors ask for
_FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)


class FrameProcessor:
    """`image_id` marks a place of a picture's token among the ids. Sizes of frames are (height, width).

    Raises:
        ModelError: the processor cannot be had; says what is missing.
    """

    def __init__(self, folder: Path, config: dict[str, Any], *, name: str):
        self.name, self.kind = name, str(config.get("model_type"))
        self._processor = _load(folder, config, name)
        self.tokenizer = self._processor.tokenizer
        self.token = _image_token(self._processor, config, name)
        image_id = config.get("image_token_id", config.get("image_token_index"))
        self.image_id = self.tokenizer.convert_tokens_to_ids(self.token) if image_id is None else int(image_id)
        self._known: dict[tuple[int, int], tuple[Any, int, str | None]] = {}
        self._inline = not self._in_order()

    def tokens(self, size: tuple[int, int]) -> int:
        """Visual tokens of a frame."""
        return self._probe(size)[1]

    def grid(self, size: tuple[int, int]) -> Any:
        """The row of image_grid_thw of one frame, (1, 3); None where the family has none."""
        return self._probe(size)[0]

    def ids(self, seconds: Sequence[float], question: str, size: tuple[int, int]) -> list[int]:
        """Token ids of the whole prompt: every frame's time and place, then the question."""
        text, expanded = self._text(seconds, question), self._probe(size)[2]
        if expanded is None:
            return self._called(text, [_blank(size)] * len(seconds))["input_ids"][0].tolist()
        return self._encode(expanded.join(text.split(self.token)))

    def pixels(self, frames: Sequence[np.ndarray]) -> dict[str, Any]:
        """Frames (H, W, 3) uint8 of one size -> the tensors that the model takes for them."""
        alone = len(frames) == 1 and self.kind == "llava_onevision"
        given = list(frames) * (2 if alone else 1)
        found = self._called(self.token * len(given), given)
        found = {key: value for key, value in found.items() if key not in _TEXT}
        if alone:  # it would cut a single picture into up to nine tiles; one of several it takes whole
            found |= {key: found[key][:1] for key in ("pixel_values", "image_sizes")}
        return found

    def whole(self, seconds: Sequence[float], question: str, frames: Sequence[np.ndarray]) -> dict[str, Any]:
        """Everything that the processor makes of a prompt at once, for families whose prompts are not taken apart."""
        return dict(self._called(self._text(seconds, question), list(frames)))

    def _text(self, seconds: Sequence[float], question: str) -> str:
        content: list[dict[str, str]] = []
        for moment in seconds:
            content += [{"type": "text", "text": frame_clock(moment)}, {"type": "image"}]
        content.append({"type": "text", "text": question.replace(self.token, " ")})
        if self._inline:
            said = "\n".join(self.token if entry["type"] == "image" else entry["text"] for entry in content)
            content = [{"type": "text", "text": said}]
        return self._rendered(content)

    def _rendered(self, content: list[dict[str, str]]) -> str:
        from jinja2 import TemplateError

        try:
            messages = [{"role": "user", "content": content}]
            return self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except (TemplateError, *_FAILURES) as error:
            raise ModelError(f"the chat template of {self.name} cannot show frames ({_first(error)})", "use a model made for instructions") from error

    def _in_order(self) -> bool:
        """Whether the template leaves pictures where they are between texts. Some put all pictures first; then the mark of a
        picture is written into the text itself."""
        self._inline = False
        found = self._text([1, 2], "and?")
        places = [found.find(frame_clock(1)), found.find(self.token), found.find(frame_clock(2)), found.rfind(self.token)]
        return -1 not in places and places == sorted(places)

    def _probe(self, size: tuple[int, int]) -> tuple[Any, int, str | None]:
        """What becomes of a blank frame: (its grid, its tokens, the text that stands for it in a prompt).

        The text is None where ids made with it would differ from the processor's own."""
        if size not in self._known:
            blanks = [_blank(size)] * 2
            both = self._called(self.token * 2, blanks, add_special_tokens=False)
            ids = both["input_ids"][0].tolist()
            text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            half, sample = text[: len(text) // 2], self._text([1, 62], "what?")
            plain = self._called(sample, blanks)["input_ids"][0].tolist()
            same = half * 2 == text and self._encode(half.join(sample.split(self.token))) == plain
            grid = both.get("image_grid_thw")
            self._known[size] = (None if grid is None else grid[:1].clone(), ids.count(self.image_id) // 2, half if same else None)
            if not self._known[size][1]:
                raise ModelError(f"the processor of {self.name} makes no tokens of a picture", REMEDY)
        return self._known[size]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=self._begins(text))["input_ids"]

    def _begins(self, text: str) -> bool:
        """Whether the tokenizer is to add its own beginning: not where the template has written it."""
        begin = self.tokenizer.bos_token
        return begin is None or not text.startswith(begin)

    def _called(self, text: str, frames: list[np.ndarray], **more: Any) -> dict[str, Any]:
        options = {"add_special_tokens": self._begins(text), "return_tensors": "pt"} | more
        try:
            return self._processor(text=[text], images=[frames], **options)
        except _FAILURES as error:
            raise ModelError(f"the processor of {self.name} cannot prepare a frame ({_first(error)})", REMEDY) from error


def _blank(size: tuple[int, int]) -> np.ndarray:
    return np.zeros((*size, 3), dtype=np.uint8)


def _load(folder: Path, config: dict[str, Any], name: str) -> Any:
    import transformers

    pictures, kind = picture_config(folder, name), str(config.get("model_type"))
    made = _processor_class(folder, pictures, kind)
    if made is None:
        raise ModelError(f"transformers {transformers.__version__} has no processor for {name} ({kind})", "pip install -U transformers, or use another model")
    try:
        facts, _ = made.get_processor_dict(folder)
        parts = [_part(attribute, folder, overrides(kind, pictures)) for attribute in _attributes(made)]
        return _without_video(made).from_args_and_dict(parts, facts)
    except _FAILURES as error:
        missing = next((word for word in _PACKAGES if word in str(error) and find_spec(word) is None), None)
        if missing is not None:
            raise ModelError(f"the processor of {name} needs {missing}, which is not installed", f"pip install {missing}") from error
        raise ModelError(f"the processor of {name} cannot be loaded ({_first(error)})", REMEDY) from error


def _processor_class(folder: Path, pictures: dict[str, Any], kind: str) -> Any:
    """As AutoProcessor finds it, but never one that comes as program code."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    from mambamia_cli.language.tokenizer import read_json

    told = [read_json(folder / file).get("processor_class") for file in ("processor_config.json", "tokenizer_config.json")]
    for found in (told[0], pictures.get("processor_class"), told[1], PROCESSOR_MAPPING_NAMES.get(kind)):
        made = getattr(transformers, found, None) if isinstance(found, str) else None
        if made is not None and hasattr(made, "from_args_and_dict"):
            return made
    return None


def _attributes(made: Any) -> list[str]:
    """The names of a processor's parts, in the order in which it takes them."""
    return list(made.get_attributes() if hasattr(made, "get_attributes") else made.attributes)


def _part(attribute: str, folder: Path, changes: dict[str, Any]) -> Any:
    import transformers

    if attribute == "tokenizer":
        return transformers.AutoTokenizer.from_pretrained(folder)
    if attribute == "image_processor":
        newer = int(transformers.__version__.partition(".")[0]) >= 5
        return transformers.AutoImageProcessor.from_pretrained(folder, **({"backend": "pil"} if newer else {"use_fast": False}), **changes)
    if attribute == "video_processor":
        return _NoVideo()
    return transformers.AutoFeatureExtractor.from_pretrained(folder)


class _NoVideo:
    """Stands where a processor wants a video processor: they all need torchvision, and none is ever called."""

    num_frames = fps = None


def _without_video(made: Any) -> Any:
    """A processor class that takes _NoVideo for a video processor, and checks its other parts as ever."""

    def check(self: Any, name: str, part: Any) -> Any:
        return _NoVideo if isinstance(part, _NoVideo) else made.check_argument_for_proper_class(self, name, part)

    # It writes itself to a log, as JSON, which what stands for the video processor is not.
    return type(made.__name__, (made,), {"check_argument_for_proper_class": check, "__repr__": lambda self: made.__name__})


def _image_token(processor: Any, config: dict[str, Any], name: str) -> str:
    """The text that stands for a picture in a rendered chat template."""
    found = getattr(processor, "image_token", None)
    if found is None and (number := config.get("image_token_id", config.get("image_token_index"))) is not None:
        found = processor.tokenizer.convert_ids_to_tokens(int(number))
    if not found:
        raise ModelError(f"{name} has no token for a picture", "use a model that takes several pictures")
    return str(getattr(found, "content", found))


def _first(error: BaseException) -> str:
    """The first sentence of what a library says, which may go on for pages."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
    return line.partition(". ")[0].rstrip(".")[:200]
