"""Anchors to tokens, the prompt around them, and both modes of the projector."""

import pytest
import torch

from mambamia_cli.errors import ModelError
from mambamia_cli.language import prompt
from mambamia_cli.language.projector import Projector, ProjectorConfig, frozen_tokens


@pytest.mark.parametrize(("mode", "tokens"), [("frame", 3), ("anchor", 4)])
def test_shapes_and_round_trip_in_half_precision(tmp_path, mode, tokens):
    projector = Projector(ProjectorConfig(8, 4, 16, 12, tokens, mode)).eval()
    anchors = torch.randn(5, 4, 8)
    out = frozen_tokens(projector, anchors)
    assert out.shape == (5, tokens, 12)
    projector.half().save_pretrained(tmp_path)
    again = Projector.from_pretrained(tmp_path)
    torch.testing.assert_close(frozen_tokens(again, anchors), out, atol=5e-3, rtol=5e-3)


def test_anchor_mode_treats_anchors_alike_and_frame_mode_does_not():
    anchors = torch.randn(1, 4, 8)
    turned = anchors.flip(1)
    each = Projector(ProjectorConfig(8, 4, 16, 12, 4, "anchor")).eval()
    torch.testing.assert_close(each(turned), each(anchors).flip(1))
    together = Projector(ProjectorConfig(8, 4, 16, 12, 4, "frame")).eval()
    assert (together(turned) - together(anchors).flip(1)).abs().max() > 1e-3


def test_bad_configs_and_weights_are_model_errors(tmp_path):
    with pytest.raises(ModelError, match="mode"):
        ProjectorConfig(mode="both")
    with pytest.raises(ModelError, match="tokens_per_frame"):
        ProjectorConfig(mode="anchor", anchors=4, tokens_per_frame=2)
    Projector(ProjectorConfig(8, 4, 16, 12, 2)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace('"hidden_width": 16', '"hidden_width": 17'))
    with pytest.raises(ModelError, match="fc1"):
        Projector.from_pretrained(tmp_path)


class Letters:
    """A language model that is one id a character and an embedding of it."""

    width = 4

    def tokenize(self, text):
        return [ord(c) for c in text]

    def embed(self, ids):
        return torch.tensor(ids, dtype=torch.float32)[:, None].expand(-1, 4)

    def chat_text(self, user, *, system=None):
        return f"<{system}>{user}</>"


def test_frames_stand_in_order_behind_their_times():
    tokens = [torch.full((2, 4), -1.0), torch.full((2, 4), -2.0)]
    embeds = prompt.build(Letters(), [(3.4, tokens[0]), (61.0, tokens[1])], "who?", system="s")
    told = "".join(chr(int(v)) if v > 0 else {-1: "A", -2: "B"}[int(v)] for v in embeds[:, 0])
    assert told == "<s>3:AA61:BB\nwho?</>"
    assert prompt.prompt_length(Letters(), [3.4, 61.0], 2, "who?") == len(told) - 1 + len(prompt.SYSTEM)


def test_a_question_cannot_smuggle_the_placeholder_in():
    embeds = prompt.build(Letters(), [], f"a{prompt.PLACEHOLDER}b", system="")
    assert "".join(chr(int(v)) for v in embeds[:, 0]) == "<>\nab</>"


def test_options_are_put_behind_the_question():
    assert prompt.with_options("Which?", ["x", "y"]) == "Which? Options: x, y."
