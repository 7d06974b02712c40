"""An image-text-to-text model on a card that is not there (fixtures/fake_cuda.py). Of the families only Gemma 3 can be run so: the
others of transformers ask their tensors for pictures' sizes or places, which fakes do not have. Run with -s for what was found."""

import json

import numpy as np
import torch
from fixtures import vlms
from fixtures.fake_cuda import CARD, card, on_card

from mambamia_cli.language.vlm.model import VisionLanguageModel

SIZE, SECONDS, TOKENS = (96, 128), (0, 1.2, 61, 3599, 3700), 3


def test_gemma(tmp_path):
    folder = vlms.write_vlm(tmp_path / "m", "gemma3")
    model = VisionLanguageModel(folder, json.loads((folder / "config.json").read_text()), name="it", quant="bf16")
    model.prefill = 64  # about two frames at once
    frames = np.zeros((len(SECONDS), *SIZE, 3), np.uint8)
    prompt = model.prompt(SECONDS, "what is it?", SIZE, lambda first, last: list(frames[first:last]))
    with card() as seen, torch.inference_mode():
        on_card(model.model)
        model.device = CARD
        "".join(model.generate(prompt, max_tokens=TOKENS))
    print(seen.told())
    pieces = seen.moves["language/vlm/model.py:_tensors", "to card"]  # of pixels; the last piece has none
    assert not seen.mixed and not seen.widened and 1 < pieces <= len(SECONDS)
    # The host waits for each token, and once a piece for a check of transformers' own that pictures fit their places.
    assert seen.reads.pop(("language/generation.py:next_token", "item")) == TOKENS
    assert all(place.startswith("language/vlm/model.py:_forward (transformers") for place in seen.places(seen.reads)) and seen.reads.total() <= pieces
    assert {place for place, way in seen.moves if way == "to host"} == set()
    # Beside pixels: ids of a piece or token, and positions of the cache.
    assert {place.partition(" ")[0] for place, _ in seen.moves} == {f"language/vlm/model.py:{name}" for name in ("_row", "_tensors", "_forward")}
