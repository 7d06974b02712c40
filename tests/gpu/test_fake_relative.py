"""UniMambaMia at its published sizes on a card that is not there (fixtures/fake_cuda.py), its bytes against the plan. -s shows them."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import relatives
from fixtures.card_models import FourBit
from fixtures.fake_cuda import CARD, card, on_card
from fixtures.language_models import small_tokenizer

from mambamia_cli.language.tokenizer import TransformersTokenizer
from mambamia_cli.language.transformers_lm import TransformersLanguageModel
from mambamia_cli.language.unimambamia.config import read_config
from mambamia_cli.language.unimambamia.model import UniMambaMia, _Parts
from mambamia_cli.plan import estimate, known, relative
from mambamia_cli.plan.estimate import Task
from mambamia_cli.plan.headers import Entry
from mambamia_cli.plan.parts import LITE0, Parts
from mambamia_cli.plan.tape import DEVICE, Tape

PUBLISHED = relatives.CONFIG | known.LANGUAGE["Qwen/Qwen2-7B-Instruct"] | {
    "model_type": "llava_qwen", "mm_vision_tower": "google/siglip2-so400m-patch16-384", "mm_audio_tower": "x/qwen2-audio-encoder",
    "audio_projector_mode": "per_from1to1frames_25patchwise_25tokperframe", "audio_projector_hidden_size": None}  # fmt: skip
NAMES = {"sight.encoder.": "model.vision_tower.vision_tower.vision_model.encoder.", "sight.embeddings.": "model.vision_tower.vision_tower.vision_model.embeddings.",
         "sight.projector.": "model.mm_projector.", "sight.newframe": "model.image_newframe", "hearing.encoder.": "model.audio_tower.model.",
         "hearing.compressor.": "model.mm_audio_projector.", "language.": ""}  # fmt: skip

# Norms of transformers over 4096 rows of the prompt, a question's embeddings, one row of logits, a norm over rounded numbers.
WIDE = {"language/transformers_lm.py:_forward (transformers modeling_qwen2:forward)", "language/transformers_lm.py:embed", "language/transformers_lm.py:_forward",
        "language/unimambamia/senses.py:_tokens (transformers modeling_siglip:forward)", "compressor/layers.py:_gated_and_scale", "compressor/ssd.py:ssd_scan",
        "compressor/ssd_block.py:<genexpr>"}  # fmt: skip


def published(model):
    """The headers that a checkpoint of these parts has, under its own names."""
    entries = []
    for own, tensor in model.state_dict().items():
        prefix = next(prefix for prefix in NAMES if own.startswith(prefix))
        entries.append(Entry(NAMES[prefix] + own.removeprefix(prefix), tuple(tensor.shape), "F16"))
    return entries


@pytest.mark.slow
@pytest.mark.parametrize("hears, turns", [(True, False), (False, False), (True, True)], ids=["hears", "deaf", "senses take turns"])
def test_published_sizes(monkeypatch, hears, turns):
    """32 frames and 40 s of sound through SigLIP2 so400m, the Qwen2-Audio encoder and Qwen2-7B in NF4."""
    seconds, count, max_tokens = 40.0, 32, 4
    config = read_config(Path("/nowhere"), PUBLISHED, hear=hears)
    with torch.device("meta"):
        parts = _Parts(config, {}).to(torch.bfloat16).eval()
    sizes, language = relative.sizes_of("relative", config, published(parts))
    assert 400e6 < sizes.sight < 450e6 and (not hears or 750e6 < sizes.hearing < 950e6) and 7.5e9 < language.parameters < 7.7e9
    for name, child in list(parts.language.named_modules()):
        if isinstance(child, torch.nn.Linear) and name != "lm_head":
            parent, _, leaf = name.rpartition(".")
            setattr(parts.language.get_submodule(parent), leaf, FourBit(child))
    model = UniMambaMia.__new__(UniMambaMia)
    model.config, model.sight, model.hearing, model.device, model.turns = config, parts.sight, parts.hearing, CARD, turns
    with card() as seen, torch.inference_mode():
        on_card(parts.language)
        for sense in (parts.sight, parts.hearing) if hears else (parts.sight,):
            on_card(sense, "cpu" if turns else CARD)
            monkeypatch.setattr(sense, "to", partial(on_card, sense))  # fakes cannot be swapped in place, as `to` does it
        from transformers import PreTrainedTokenizerFast

        fast = PreTrainedTokenizerFast(tokenizer_object=small_tokenizer(), eos_token="<|im_end|>")
        model.lm = TransformersLanguageModel.around(parts.language, TransformersTokenizer(fast, frozenset({257})), name="it", quant="nf4", device=CARD, revision="x")
        frames = model.see(np.zeros((48, 64, 3), np.uint8) for _ in range(count))
        sound = model.hear([np.zeros(480_000, np.float32), np.zeros(160_000, np.float32)]) if hears else None
        video = model.lay_out(frames, sound)
        del frames, sound
        embeds = model.prompt(video, "what is it?")
        for _ in model.lm.generate(embeds, max_tokens=max_tokens):
            pass
    assert not seen.mixed and {place for place, _ in seen.reads} == {"language/generation.py:next_token"}
    assert seen.places(seen.widened) <= WIDE
    whole = Parts("relative", LITE0, None, None, language, None, True, relative=sizes)
    asked = estimate.answering_of(whole, Task(160, seconds, (720, 1280), "cuda", "nf4", max_tokens, question=11), estimate.Settings())
    assert relative.sound_tokens(sizes, count, seconds) == (64 if hears else 0)
    assert len(embeds) - asked.tokens < 60 and len(embeds) >= count * 145 + (64 if hears else 0)
    planned = Tape(unified=False)
    relative.play(planned, language, sizes, replace(asked, tokens=len(embeds)), seconds, turns=turns)
    mine, real = planned.peak[DEVICE], seen.peak["cuda"]
    print(f"UniMambaMia, published sizes, {'hears' if hears else 'deaf'}{', by turns' * turns}: planned {mine / 1e6:.1f} MB, counted {real / 1e6:.1f} MB, {mine / real - 1:+.1%}, at {seen.bytes.ops['cuda']}")
    assert abs(mine / real - 1) < 0.10
