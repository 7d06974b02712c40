"""Tokens a second of the language model: reading a prompt, writing an answer, loading; each form of the weights in one run.

The yardstick is transformers' own `generate` on the float32 weights, measured on the same prompt in the same process.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from mambamia_cli.errors import MambamiaError
from mambamia_cli.language.model import load_language_model

YARDSTICK = ("generate", "fp32")
VARIANTS = (
    *(("fast", quant) for quant in ("int4", "int8", "bf16", "fp32")),
    *(("transformers", quant) for quant in ("nf4", "bf16", "fp32")),
    YARDSTICK,
)
REPEATS = 3  # the best of them counts: what disturbs a measurement only ever makes it slower
TEXT = "A dog runs along the beach, looks at a red boat and barks. "


@dataclass(frozen=True)
class LanguageSpeed:
    """One line. Seconds to load (weights packed already) and to read `prompt_tokens`; tokens a second when writing.

    `error` says why a variant could not be measured; its figures are None then.
    """

    backend: str
    quant: str
    threads: int
    prompt_tokens: int
    new_tokens: int
    load_s: float | None = None
    prefill_s: float | None = None
    tokens_per_s: float | None = None
    error: str | None = None


def language_speed(
    name: str = "smollm2-135m-instruct",
    variants: Sequence[tuple[str, str]] = VARIANTS,
    *,
    prompt_tokens: int = 400,
    new_tokens: int = 64,
    progress: Callable[[str], None] | None = None,
) -> list[LanguageSpeed]:
    """Measure each (backend, quant) on the CPU. A variant that cannot run is a line with its reason, not a failure."""
    rows = []
    for backend, quant in variants:
        if progress:
            progress(f"measuring {backend} {quant}")
        facts = (backend, quant, torch.get_num_threads(), prompt_tokens, new_tokens)
        try:
            rows.append(LanguageSpeed(*facts, *_measure(name, backend, quant, prompt_tokens, new_tokens)))
        except MambamiaError as error:
            rows.append(LanguageSpeed(*facts, error=str(error)))
        gc.collect()
    return rows


def _measure(name: str, backend: str, quant: str, prompt_tokens: int, new_tokens: int) -> tuple[float, float, float]:
    """-> (load seconds, prefill seconds, tokens a second)."""
    loader = "transformers" if backend == "generate" else backend
    if loader == "fast":
        load_language_model(name, quant=quant, backend=loader)  # packs the weights when they are not in the cache
    start = time.perf_counter()
    lm = load_language_model(name, quant=quant, backend=loader)
    load = time.perf_counter() - start
    ids = lm.tokenize(TEXT * (prompt_tokens // len(lm.tokenize(TEXT)) + 1))[:prompt_tokens]
    run = _generate_by_transformers if backend == "generate" else _generate
    run(lm, ids, 2)  # warm-up: the first use pages weights in and lets libraries choose their kernels
    times = [run(lm, ids, new_tokens + 1) for _ in range(REPEATS)]  # [(prefill seconds, writing seconds)]
    return load, min(reading for reading, _ in times), new_tokens / min(writing for _, writing in times)


def _generate(lm, ids: list[int], count: int) -> tuple[float, float]:
    """Seconds until the first of `count` tokens and from there to the last: neither an end token nor a loop stops it."""
    read, step = start_reading(lm, lm.embed(ids))
    start = time.perf_counter()
    token = int(read().argmax())
    first = time.perf_counter()
    for _ in range(count - 1):
        token = int(step(token).argmax())
    return first - start, time.perf_counter() - first


def start_reading(lm, embeds):
    """(read the prompt, read one more token), below the loop that would stop at the end of the answer."""
    if hasattr(lm, "llama"):
        lm.llama.position = 0
        return lambda: lm.llama.forward(embeds), lambda token: lm.llama.forward(lm.llama.embedding[token : token + 1])
    return lambda: lm._read(embeds), lambda token: lm._forward(torch.tensor([[token]], device=lm.device), lm._cache)[-1]


def _generate_by_transformers(lm, ids: list[int], count: int) -> tuple[float, float]:
    """The same of transformers' own loop."""
    prompt, ticks = torch.tensor([ids]), []

    def note_time(tokens, scores, **_):  # asked after every token whether to stop
        ticks.append(time.perf_counter())
        return torch.zeros(len(tokens), dtype=torch.bool)

    start = time.perf_counter()
    options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "stopping_criteria": [note_time]}
    lm.model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    return ticks[0] - start, ticks[-1] - ticks[0]


def to_dict(rows: Sequence[LanguageSpeed]) -> list[dict]:
    """For JSON: one object a line, fields that do not apply left out."""
    return [{k: v for k, v in asdict(row).items() if v is not None} for row in rows]


def to_text(rows: Sequence[LanguageSpeed]) -> str:
    """A table for the terminal; the last column is the speed of writing against the yardstick's."""
    base = next((row.tokens_per_s for row in rows if (row.backend, row.quant) == YARDSTICK), None)
    lines = [f"{'decoder':<13} {'quant':<5} {'load s':>7} {'prefill s':>9} {'tokens/s':>9} {'x generate':>10}"]
    for row in rows:
        if row.error:
            lines.append(f"{row.backend:<13} {row.quant:<5} {row.error}")
            continue
        ratio = f"{row.tokens_per_s / base:10.1f}" if base else f"{'':>10}"
        figures = f"{row.load_s:7.2f} {row.prefill_s:9.2f} {row.tokens_per_s:9.1f} {ratio}"
        lines.append(f"{row.backend:<13} {row.quant:<5} {figures}")
    if rows:
        lines.append(f"prompt of {rows[0].prompt_tokens} tokens, {rows[0].new_tokens} written, {rows[0].threads} threads, best of {REPEATS}")
    return "\n".join(lines)
