"""The whole chain as one module to train: frozen vision, compressor, projector, language model; rows in, losses out.

Letters: b rows, m frames, n patches, g anchors, d width, t tokens a frame, l sequence.

Delta is what chooses frames, and a choice has no gradient. Two things teach it. Through the answers: a frame's tokens are
multiplied by 1 + (delta - delta), the second delta taken as a number, which leaves their values and sends delta the
gradient "would this frame be better louder?" (a straight-through estimate; the paper says only that delta is learned
through the language model's loss). And by a boundary loss: delta should be high where the frozen encoder's own features jump.
"""

import contextlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mambamia_cli.compressor.model import MambaMiaCompressor
from mambamia_cli.compressor.select import select_frames, threshold_for_budget
from mambamia_cli.language.projector import Projector
from mambamia_cli.language.prompt import frame_label
from mambamia_cli.training.dialogue import IGNORED, Dialogue, Tokens
from mambamia_cli.training.llava import Conversation, Footage

REST, BOUNDARY = 0.03, 1.0  # what delta should be: nothing new, a new shot
OUTLIER = 6.0  # deviations above the median from which a jump of features is a boundary
SMALLEST_JUMP = 0.02  # cosine distance


@dataclass(frozen=True)
class Example:
    """A row as it was read."""

    row: Conversation
    footage: Footage


@dataclass
class Losses:
    """`total`: to be differentiated, a sum over answer tokens. Counts by kind: answer tokens, and those predicted right."""

    total: Tensor
    answer: float
    delta: float
    tokens: int
    kept: int
    right: dict[str, int]
    counted: dict[str, int]


class VideoModel(nn.Module):
    """`encoder` and `lm` are inference's own (vision.Encoder, TransformersLanguageModel); `world` is not known here."""

    def __init__(self, encoder, compressor: MambaMiaCompressor, projector: Projector, lm, *, precision: torch.dtype, max_length: int,
                 checkpointing: bool = True):  # fmt: skip
        super().__init__()
        self.compressor, self.projector = compressor, projector
        self.encoder, self.lm, self.dialogue = encoder, lm, Dialogue(lm)
        self.precision, self.checkpointing, self.max_length = precision, checkpointing, max_length
        self.keeps = "logits_to_keep" in inspect.signature(lm.model.forward).parameters
        self.device_type = torch.device(lm.device).type

    def casting(self):
        """bfloat16 products where asked for; weights and their updates stay in float32."""
        if self.precision == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, self.precision)

    def forward(self, examples: Sequence[Example], delta_weight: float, part: float | None = None) -> Losses:
        """The losses of rows passed together, each of which must have room (see `room`)."""
        with self.casting():
            seen = self.watch([e.footage for e in examples])
            chosen = [self._choose(e, tokens, delta, part) for (tokens, delta, _), e in zip(seen, examples, strict=True)]
            layouts = [self.layout(e, [e.footage.seconds[i] for i in keep]) for e, (keep, _) in zip(examples, chosen, strict=True)]
            logits, wanted, owner = self._read(layouts, [tokens for _, tokens in chosen])
        losses = F.cross_entropy(logits.float(), wanted, reduction="none")  # (answer tokens,)
        answer = losses.sum()
        counts = torch.bincount(owner, minlength=len(examples))
        boundary = [self.boundary_loss(delta, target) * int(n) for (_, delta, target), n in zip(seen, counts, strict=True) if len(delta) > 1]
        delta = torch.stack(boundary).sum() if boundary else answer.new_zeros(())
        hits = (logits.argmax(-1) == wanted).cpu()
        right: dict[str, int] = {}
        counted: dict[str, int] = {}
        for at, example in enumerate(examples):
            mine = (owner == at).cpu()
            right[example.row.kind] = right.get(example.row.kind, 0) + int(hits[mine].sum())
            counted[example.row.kind] = counted.get(example.row.kind, 0) + int(mine.sum())
        kept = sum(len(keep) for keep, _ in chosen)
        return Losses(answer + delta_weight * delta, float(answer.detach()), float(delta.detach()), len(wanted), kept, right, counted)

    def layout(self, example: Example, seconds: Sequence[float]) -> Tokens:
        return self.dialogue.layout(example.row.turns, seconds, self.projector.config.tokens_per_frame, example.row.system)

    def watch(self, footages: Sequence[Footage]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """-> for each: tokens (m, t, width), delta (m,), and what delta should be (m,). Alike lengths pass together."""
        results: list = [None] * len(footages)
        lengths: dict[int, list[int]] = {}
        for at, footage in enumerate(footages):
            lengths.setdefault(len(footage.frames), []).append(at)
        device = next(self.compressor.parameters()).device
        for m, members in lengths.items():
            if m == 0:
                for at in members:
                    results[at] = (torch.zeros(0, self.projector.config.tokens_per_frame, self.projector.config.output_width, device=device),
                                   torch.zeros(0, device=device), torch.zeros(0, device=device))  # fmt: skip
                continue
            pixels = torch.from_numpy(np.concatenate([footages[at].frames for at in members])).permute(0, 3, 1, 2)  # (b * m, 3, H, W)
            with torch.autocast(self.device_type, enabled=False):
                # A clone: what comes out of inference mode cannot enter a graph.
                patches = self.encoder.encode(pixels).clone().to(device).unflatten(0, (len(members), m))  # (b, m, n, d_vision)
            anchors, delta = self._compress(patches)
            tokens = self.projector(anchors)  # (b, m, t, width)
            for row, at in enumerate(members):
                results[at] = (tokens[row], delta[row], boundaries(patches[row]))
        return results

    def _compress(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The compressor's forward, each block recomputed in the backward pass when checkpointing."""
        c = self.compressor
        hidden = c.insert_queries(patches)  # (b, m, g, k + 1, d)
        for block in c.model.layers:
            hidden = checkpoint(block, hidden, use_reentrant=False) if self.checkpointing and self.training else block(hidden)
        anchors, delta = c.taa(c.keep_queries(hidden))
        return c.output_proj(anchors), delta

    def room(self, example: Example) -> int:
        """How many frames there is room for beside the text; below 1 the row is too long, frames or not."""
        text = len(self.layout(example, []).ids)
        latest = example.footage.seconds[-1] if example.footage.seconds else 0.0
        each = self.projector.config.tokens_per_frame + len(self.lm.tokenize(frame_label(latest)))
        return (self.max_length - text) // each

    def _choose(self, example: Example, tokens: Tensor, delta: Tensor, part: float | None) -> tuple[list[int], Tensor]:
        """Frames kept, and their tokens (k, t, width) with delta's straight-through gradient.

        part: how much of a video is kept, chosen by delta; None = all of it. What does not fit is chosen by delta anyway,
        as at inference.
        """
        count = len(delta)
        keep, most = list(range(count)), min(count, self.room(example))
        if part is not None and example.row.kind == "video":
            most = min(most, max(1, round(part * count)))
        if most < count:
            values = delta.detach().float().cpu()
            keep = select_frames(values, threshold_for_budget(values, most))
        gain = 1 + (delta - delta.detach())  # (m,) of ones
        return keep, (tokens * gain[:, None, None].to(tokens.dtype))[keep]

    def _read(self, layouts: Sequence[Tokens], tokens: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """-> logits (a, vocabulary) where an answer token is predicted, the tokens wanted (a,), and whose row each is (a,)."""
        model, device = self.lm.model, self.lm.device
        longest = max(len(layout.ids) for layout in layouts)
        ids = _padded([layout.ids for layout in layouts], longest, 0, device)  # (b, l)
        visual = _padded([layout.visual for layout in layouts], longest, False, device)
        labels = _padded([layout.labels for layout in layouts], longest, IGNORED, device)
        embeds = model.get_input_embeddings()(ids)  # (b, l, width)
        embeds = embeds.masked_scatter(visual[..., None], torch.cat([part.flatten(0, 1) for part in tokens]).to(embeds.dtype))
        # No mask: what pads stands on the right, where no token of the row looks, and fused causal attention may be used.
        rows, columns = torch.nonzero(labels != IGNORED, as_tuple=True)
        where = torch.unique(columns - 1)  # the vocabulary is large: logits only where a token is predicted
        logits = model(inputs_embeds=embeds, use_cache=False, **({"logits_to_keep": where} if self.keeps else {})).logits
        logits = logits if self.keeps else logits[:, where]  # (b, |where|, vocabulary)
        return logits[rows, torch.searchsorted(where, columns - 1)], labels[rows, columns], rows

    @staticmethod
    def boundary_loss(delta: Tensor, target: Tensor) -> Tensor:
        """delta (m,), target (m,) -> mean over all frames but the first, boundaries counting five times: they are few."""
        weight = 1 + 4 * (target == BOUNDARY).float()
        weight[0] = 0  # nothing came before it
        error = F.smooth_l1_loss(delta.float(), target, reduction="none", beta=0.2)
        return (weight * error).sum() / weight.sum()


def boundaries(patches: Tensor) -> Tensor:
    """patches (m, n, d_vision) of a frozen encoder -> what delta should be (m,): BOUNDARY where the mean feature turns further from
    its predecessor than OUTLIER robust deviations above the median, else REST."""
    target = patches.new_full((len(patches),), REST)
    if len(patches) < 2:
        return target
    mean = F.normalize(patches.float().mean(1), dim=-1)  # (m, d_vision)
    jump = 1 - (mean[1:] * mean[:-1]).sum(-1)  # (m - 1,)
    middle = jump.median()
    deviation = 1.4826 * (jump - middle).abs().median()
    target[1:][jump > torch.clamp(middle + OUTLIER * deviation, min=SMALLEST_JUMP)] = BOUNDARY
    return target


def _padded(rows: Sequence[Sequence], length: int, filler, device) -> Tensor:
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows], device=device)
