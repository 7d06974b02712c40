"""A MambaMia model whole, in its real files: frames in, text out, equal to a plain composition of transformers, token by token."""

from fractions import Fraction

import numpy as np
import pytest
from fixtures import natives

from mambamia_cli.compressor.select import select_frames, threshold_for_budget
from mambamia_cli.language.transformers_lm import bitsandbytes_config
from mambamia_cli.pipeline import Models, open_video
from mambamia_cli.video import SampleSpec, open_frames

QUESTION, COUNT = "What is seen?", 24


@pytest.fixture(scope="module", params=[{}, {"bidirectional": False}], ids=["both ways", "forward only"])
def folder(request, tmp_path_factory):
    return natives.write_native(tmp_path_factory.mktemp("native") / "m", **request.param)


@pytest.fixture(scope="module")
def looked(folder, three_cuts):
    """The reference's look: times, anchors, delta."""
    with open_frames(three_cuts.path, SampleSpec(fps=Fraction(4), size=(natives.SIDE, natives.SIDE))) as chunks:
        found = list(chunks)
    frames, times = np.concatenate([chunk.frames for chunk in found]), [float(t) for chunk in found for t in chunk.times]
    return times, *natives.compressed(folder, natives.patches(folder, frames))


@pytest.mark.parametrize("quant", ["fp32", "nf4"])
@pytest.mark.parametrize("budget", [None, 9 * natives.TOKENS], ids=["all frames", "those that delta picks"])
def test_the_answer_is_the_references_token_by_token(folder, looked, three_cuts, quant, budget):
    times, anchors, delta = looked
    options = {"quantization_config": bitsandbytes_config("nf4", "cpu")} if quant == "nf4" else {}
    video = open_video(three_cuts.path, models=Models(str(folder), device="cpu", quant=quant, threads=1), token_budget=budget)
    index = video.index(default_rate=Fraction(4))
    assert index.seconds.tolist() == times and len(times) == 32
    np.testing.assert_allclose(index.delta, delta, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(index.anchors.read(list(range(32))), anchors, rtol=2e-3, atol=2e-3)
    kept = list(range(32)) if budget is None else select_frames(delta.numpy(), threshold_for_budget(delta.numpy(), 9))
    if quant == "nf4":  # packed layers round what they multiply: what differs in the sixth digit may round apart, so the same anchors are read
        anchors = index.anchors.read(list(range(32)))
    wanted, text = natives.answer(folder, anchors[list(kept)], [times[i] for i in kept], QUESTION, COUNT, **options)
    record = video.ask(QUESTION, max_tokens=COUNT)
    assert record.tool.quant == quant and record.sampling.kept == len(kept) and len(set(wanted)) > 3
    assert record.answer and (text.strip().startswith(record.answer) if record.finish == "repeat" else record.answer == text.strip())
    assert natives.answer(folder, anchors[list(kept)].flip(0), [times[i] for i in kept], QUESTION, COUNT, **options)[0] != wanted, "what is seen must matter"
