"""Text <-> token ids and the chat template, without importing transformers where a tokenizer.json is enough.

Importing transformers costs seconds, the embedded model answers in less; so a folder with tokenizer.json is read by
the tokenizers package and its chat template rendered by jinja2, with the same results (the tests compare).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mambamia_cli.errors import ModelError


class Tokenizer(Protocol):
    """What the language models need of a tokenizer. `stop_ids` end an answer."""

    stop_ids: frozenset[int]

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text`, nothing added around it. With `special` false, "<|im_end|>" is ordinary characters."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""

    def chat_text(self, user: str, system: str | None = None) -> str:
        """The model's chat template around one user message, up to where the answer begins."""


def plain_chat(user: str, system: str | None = None) -> str:
    """The prompt of a model that has no chat template (base models such as Pythia)."""
    return f"{system}\n\n{user}\nAnswer:" if system else f"{user}\nAnswer:"


def plain_dialogue(messages: list[dict[str, str]]) -> str:
    """Several turns for a model that has no chat template, each in the form of `plain_chat`."""
    forms = {"system": "{}\n\n", "user": "{}\nAnswer:", "assistant": " {}\n\n"}
    return "".join(forms[message["role"]].format(message["content"]) for message in messages)


def messages_of(user: str, system: str | None) -> list[dict[str, str]]:
    """Chat messages; no system message when `system` is None or empty, so that the template's own default stands."""
    return ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": user}]


class FastTokenizer:
    """tokenizer.json + tokenizer_config.json (or chat_template.jinja) + generation_config.json of a model folder.

    Raises: ModelError when tokenizer.json is missing or damaged.
    """

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer as Backend

        try:
            self._backend = Backend.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises plain Exception
            raise ModelError(f"the tokenizer in {folder} cannot be read ({error})", "get the model again") from error
        config = read_json(folder / "tokenizer_config.json")
        self._special = {k: _token_text(v) for k, v in config.items() if k.endswith("_token")}
        template = folder / "chat_template.jinja"
        self._template = template.read_text(encoding="utf-8") if template.is_file() else config.get("chat_template")
        self.stop_ids = stop_ids_of(folder, self._backend.token_to_id(self._special.get("eos_token") or ""))

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        self._backend.encode_special_tokens = not special
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=True)

    def chat_text(self, user: str, system: str | None = None) -> str:
        if not isinstance(self._template, str):
            return plain_chat(user, system)
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        # A template comes with the weights, so it runs in the sandbox; the two options are transformers' convention.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        environment.globals["raise_exception"] = _refuse
        rendered = environment.from_string(self._template)
        return rendered.render(messages=messages_of(user, system), add_generation_prompt=True, **self._special)


class TransformersTokenizer:
    """Any tokenizer that transformers can load, for folders and hub ids that FastTokenizer does not cover."""

    def __init__(self, tokenizer, stop_ids: frozenset[int]):
        self._tokenizer = tokenizer
        self.stop_ids = stop_ids

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def chat_text(self, user: str, system: str | None = None) -> str:
        if not self._tokenizer.chat_template:
            return plain_chat(user, system)
        return self.render(messages_of(user, system), reply=True)

    def save(self, folder: Path) -> None:
        self._tokenizer.save_pretrained(folder)

    def render(self, messages: list[dict[str, str]], *, reply: bool) -> str:
        """Several turns in the chat template's words; with `reply`, up to where the next answer begins."""
        if not self._tokenizer.chat_template:
            return plain_dialogue(messages)
        return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply)


def stop_ids_of(folder: Path, eos_id: int | None) -> frozenset[int]:
    """Ids that end an answer: the tokenizer's end token and those of generation_config.json and config.json."""
    ids = {eos_id}
    for name in ("generation_config.json", "config.json"):
        value = read_json(folder / name).get("eos_token_id")
        ids.update(value if isinstance(value, list) else [value])
    return frozenset(i for i in ids if isinstance(i, int))


def read_json(path: Path) -> dict:
    """A JSON object, empty when the file is absent. Raises ModelError when it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error})", "get the model again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} does not hold a JSON object", "get the model again")
    return value


def _token_text(value) -> str | None:
    return value.get("content") if isinstance(value, dict) else value


def _refuse(message: str):
    raise ModelError(f"the model's chat template refuses the prompt ({message})", "ask without a system message")
