"""Stage 2: a low-rank adapter teaches the language model to read visual tokens and answer questions about them.

The visual tokens come from the aligned compressor over cached features, joined into videos of random length. The
language model gets their readings in the lexicon, as it does at inference (language/lexicon.py). Several
questions share one visual prefix: each question attends to the prefix and to itself only, so the prefix is paid for
once. The loss is on the answers alone. For part of the videos the frames are picked by delta, as at inference; others
are thinned evenly or kept whole, so that the language model does not mind which.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambamia_cli.compressor.select import select_frames, threshold_for_budget
from mambamia_cli.language import lora
from mambamia_cli.language.prompt import PLACEHOLDER, SYSTEM, frame_label, with_options
from mambamia_cli.training import features, questions
from mambamia_cli.training.align import Aligner
from mambamia_cli.training.checkpoint import Run, cosine, set_rate

QUESTION_WEIGHTS = {"appear": 3, "first": 3, "last": 3, "before": 3, "after": 1, "exists": 2, "count": 1, "order": 1, "list": 1,
                    "show": 1, "title": 1, "summary": 0.5}


@dataclass(frozen=True)
class TuneConfig:
    steps: int = 1500  # videos; each is one optimiser step of `questions` questions
    questions: int = 8
    frames: tuple[int, int] = (4, 40)  # sampled frames a video
    kept: tuple[int, int] = (4, 24)  # frames that reach the language model
    words: float = 0.6  # part of the videos told in words, not in visual tokens: reading is learned from those
    mistaken: float = 0.15  # part of the frames of a told video whose words are partly or wholly other words
    lr: float = 1e-3
    rank: int = 16
    noise: float = 0.2  # of a token's own spread
    accumulate: int = 1


@dataclass(frozen=True)
class Video:
    """A synthetic video as the language model gets it: times (m,) seconds, tokens (m, t, width), and the truth."""

    seconds: tuple[float, ...]
    tokens: Tensor
    timeline: questions.Timeline
    told: bool = False  # tokens are words already, not to be read in the lexicon


class Videos:
    """Random videos of cached shots through the aligned compressor; deterministic given (seed, step)."""

    def __init__(self, model: Aligner, data: features.FeatureSet, names: list[str], labels: list[str], config: TuneConfig, seed: int):
        self.model, self.data, self.names, self.labels, self.config, self.seed = model.eval(), data, names, labels, config, seed
        crowd = (data.names[..., 1] >= 0).any(1)
        self.single = np.flatnonzero(~crowd & (data.names[..., 0] >= 0).any(1))
        self.empty = np.flatnonzero((data.names[..., 0] < 0).all(1))
        self.crowd = np.flatnonzero(crowd)

    def at(self, step: int) -> tuple[Video, np.random.Generator]:
        rng = np.random.default_rng((self.seed, 1, step))
        told = rng.random() < self.config.words
        patches, names, labels = self._frames(rng, int(rng.integers(*(self.config.kept if told else self.config.frames))))
        gap, start = float(rng.choice([1.0, 1.0, 2.0, 0.5, 5.0])), float(rng.choice([0, 0, rng.uniform(0, 600)]))
        with torch.no_grad():
            if told:
                tokens, keep = self._in_words(rng, names, labels)[None], torch.arange(len(names))
            else:
                tokens, delta = self.model(patches[None])
                keep = self._select(rng, delta[0])
        timeline = questions.Timeline(*self._truth(names, labels, set(keep.tolist())))
        return Video(tuple(start + gap * int(i) for i in keep), tokens[0, keep], timeline, told), rng

    def read(self, video: Video, asked: list[questions.Question], rng) -> Video:
        """The video as the language model gets it: readings, half of the time tipped to the words the questions name."""
        tokens, lexicon = video.tokens, self.model.lexicon
        if not video.told:
            text = " ; ".join(" ".join((q.text, *q.options)) for q in asked)
            with torch.no_grad():
                tokens = lexicon.reading(tokens, lexicon.named(text) if rng.random() < 0.5 else ())
        if rng.random() < 0.5:
            spread = lexicon.table.std() * self.config.noise * float(rng.random())
            tokens = tokens + spread * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(int(rng.integers(1 << 40))))
        return dataclasses.replace(video, tokens=tokens)

    def _frames(self, rng, m: int) -> tuple[Tensor, list, list]:
        """Shots of 2 to 8 frames joined until m frames; a third of them hold no drawing; a name comes in one shot only."""
        patches, names, labels, used = [], [], [], set()
        while len(names) < m:
            pool = self.empty if rng.random() < 0.35 else self.crowd if rng.random() < 0.1 else self.single
            shot = int(pool[rng.integers(len(pool))])
            begin = int(rng.integers(0, 4))
            part = slice(begin, int(rng.integers(begin + 2, features.FRAMES_A_SHOT + 1)))
            here = {int(n) for n in self.data.names[shot, part].ravel() if n >= 0}
            if here & used:
                continue
            used |= here
            patches.append(torch.from_numpy(np.array(self.data.patches(shot)[part])).float())
            names += self.data.names[shot, part].tolist()
            labels += self.data.labels[shot, part, 0].tolist()
        return torch.cat(patches), names, labels

    def _in_words(self, rng, names: list, labels: list) -> Tensor:
        """What a compressor would say that errs now and then: the words' own embeddings, (m, t, width), some of them mixed
        with, or lost to, another word's."""
        lexicon = self.model.lexicon
        objects, scene = len(self.names), len(lexicon.words) - 1
        rows = []
        for row, label in zip(names, labels, strict=True):
            background = scene if label < 0 else objects + label
            rows.append([n if n >= 0 else scene for n in row] if row[0] >= 0 else [background, scene])
        tokens = lexicon.table[torch.tensor(rows)]  # (m, t, width)
        wrong = torch.from_numpy(rng.integers(0, scene + 1, len(rows)))
        wrong[torch.from_numpy(rng.random(len(rows)) < 0.4)] = scene
        weight = np.where(rng.random(len(rows)) < self.config.mistaken, rng.uniform(0.2, 1, len(rows)), rng.uniform(0, 0.15, len(rows)))
        share = torch.from_numpy(weight.astype(np.float32))[:, None]
        tokens[:, 0] = (1 - share) * tokens[:, 0] + share * lexicon.table[wrong]
        return tokens

    def _select(self, rng, delta: Tensor) -> Tensor:
        """Frames kept: half of the time by delta (Algorithm 1) under a budget, else evenly; all when they fit."""
        most = int(rng.integers(*self.config.kept))
        if len(delta) <= most:
            return torch.arange(len(delta))
        if rng.random() < 0.6:
            return torch.as_tensor(select_frames(delta, threshold_for_budget(delta, most)))
        return torch.linspace(0, len(delta) - 1, most).round().long()

    def _truth(self, names: list, labels: list, kept: set[int]):
        """Names on kept frames only: what was not kept cannot be asked for. Labels seen on two kept frames or more."""
        frames: dict[str, list[int]] = {}
        seen: dict[str, int] = {}
        for i, (row, label) in enumerate(zip(names, labels, strict=True)):
            if i in kept:
                for n in row:
                    if n >= 0:
                        frames.setdefault(self.names[n], []).append(i)
                if label >= 0:
                    seen[self.labels[label]] = seen.get(self.labels[label], 0) + 1
        often = sorted((n for n, c in seen.items() if c >= 2), key=lambda n: -seen[n])
        return {n: tuple(f) for n, f in frames.items()}, tuple(often[:3])


class Packer:
    """Video and questions -> one sequence with a block mask."""

    def __init__(self, tokenizer, embeddings: Tensor):
        self.tokenizer, self.embeddings = tokenizer, embeddings
        self.fast = torch.cpu._is_avx512_bf16_supported()
        chat = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PLACEHOLDER + "\n"}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        self.before, self.tail = text.split(PLACEHOLDER + "\n")

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def pack(self, video: Video, asked: list[questions.Question]):
        """-> embeds (1, l, width), positions (1, l), mask (1, 1, l, l) bool, labels (l,) with -100 off the answers."""
        pieces = [self.embeddings[self.ids(self.before)]]
        for seconds, tokens in zip(video.seconds, video.tokens, strict=True):
            pieces += [self.embeddings[self.ids(frame_label(seconds))], tokens]
        prefix = torch.cat(pieces)
        n = len(prefix)
        ids, labels, positions, group = [], [-100] * n, list(range(n)), [0] * n
        for k, q in enumerate(asked, start=1):
            question = self.ids("\n" + with_options(q.text, q.options) + self.tail)
            answer = self.ids(q.answer + "<|im_end|>")
            ids += question + answer
            labels += [-100] * len(question) + answer
            positions += list(range(n, n + len(question) + len(answer)))
            group += [k] * (len(question) + len(answer))
        blocks = torch.tensor(group)
        same = (blocks[:, None] == blocks[None]) | (blocks[None] == 0)
        mask = same & torch.ones(len(group), len(group), dtype=torch.bool).tril()
        embeds = torch.cat([prefix, self.embeddings[ids]])[None]
        return embeds, torch.tensor(positions)[None], mask[None, None], torch.tensor(labels)


def draw_questions(rng, video: Video, names: list[str], count: int) -> list[questions.Question]:
    kinds = list(QUESTION_WEIGHTS)
    weights = np.array([QUESTION_WEIGHTS[k] for k in kinds], float)
    asked: list[questions.Question] = []
    for _ in range(8 * count):
        q = questions.ask(rng, str(rng.choice(kinds, p=weights / weights.sum())), video.timeline, names)
        if q is not None:
            asked.append(q)
        if len(asked) == count:
            break
    return asked


def answer_loss(model, packer: Packer, video: Video, asked: list[questions.Question]) -> tuple[Tensor, Tensor]:
    """-> mean cross-entropy over answer tokens, and per question whether every answer token was the model's first choice."""
    embeds, positions, mask, labels = packer.pack(video, asked)
    # bfloat16 products, float32 adapter and loss: two and a half times faster where the processor has them.
    with torch.autocast("cpu", torch.bfloat16, enabled=packer.fast):
        hidden = model.model(inputs_embeds=embeds, position_ids=positions, attention_mask=mask, use_cache=False).last_hidden_state[0]
        where = torch.nonzero(labels != -100).squeeze(1)
        logits = model.lm_head(hidden[where - 1]).float()  # only where an answer token is predicted
    wanted = labels[where]
    loss = F.cross_entropy(logits, wanted)
    hit = (logits.argmax(-1) == wanted).tolist()
    ends = (wanted == labels[labels != -100][-1]).nonzero().squeeze(1).tolist()
    right, begin = [], 0
    for end in ends:
        right.append(all(hit[begin : end + 1]))
        begin = end + 1
    return loss, torch.tensor(right, dtype=torch.float)


def train(aligner: Aligner, language_model, tokenizer, data, names, labels, folder: Path, config: TuneConfig, seed: int, log, held=None) -> dict:
    """Train the adapter until `config.steps`; resumes from the folder's checkpoint. Returns the adapters by name."""
    torch.manual_seed(seed)
    lora_config = lora.LoraConfig(rank=config.rank, alpha=2.0 * config.rank)
    adapters = lora.attach(language_model, lora_config)
    holder = nn.ModuleDict({name.replace(".", "/"): a for name, a in adapters.items()})
    weights = _Trainable(holder)
    optimizer = torch.optim.AdamW(list(lora.parameters(adapters)), lr=config.lr, weight_decay=0.0, betas=(0.9, 0.98))
    run = Run(folder, {"adapter": weights, "optimizer": optimizer})
    packer = Packer(tokenizer, language_model.get_input_embeddings().weight.detach())
    videos = Videos(aligner, data, names, labels, config, seed)
    recent: dict[str, list[float]] = {}
    language_model.train()
    while run.step < config.steps:
        set_rate(optimizer, config.lr, cosine(run.step, config.steps, warmup=30))
        optimizer.zero_grad(set_to_none=True)
        for k in range(config.accumulate):
            video, rng = videos.at(run.step * config.accumulate + k)
            asked = draw_questions(rng, video, names, config.questions)
            video = videos.read(video, asked, rng)
            loss, right = answer_loss(language_model, packer, video, asked)
            (loss / config.accumulate).backward()
            for q, r in zip(asked, right.tolist(), strict=True):
                recent.setdefault(q.kind, []).append(r)
        nn.utils.clip_grad_norm_(list(lora.parameters(adapters)), 1.0)
        optimizer.step()
        run.advance()
        if run.step % 25 == 0:
            scores = {k: round(float(np.mean(v)), 3) for k, v in sorted(recent.items())}
            recent.clear()
            run.log(loss=round(loss.item(), 4), **scores)
            log(f"tune {run.step}/{config.steps} loss {loss.item():.3f} {json.dumps(scores)} {run.elapsed:.0f}s")
        if held and (run.step % 200 == 0 or run.step == config.steps):
            for name, part in held.items():
                scores = evaluate(aligner, language_model, packer, part, names, labels, config)
                run.log(validation=name, **scores)
                log(f"  {name}: {json.dumps(scores)}")
    run.save()
    lora.save_adapter(adapters, lora_config, folder / "adapter")
    return adapters


@torch.no_grad()
def evaluate(aligner, language_model, packer, data, names, labels, config: TuneConfig, count: int = 40, seed: int = 99) -> dict[str, float]:
    """Share of questions answered exactly (greedy, teacher-forced), by kind, on `count` held-out videos."""
    language_model.eval()
    videos = Videos(aligner, data, names, labels, dataclasses.replace(config, words=0.0), seed)
    scores: dict[str, list[float]] = {}
    for step in range(count):
        video, rng = videos.at(step)
        asked = draw_questions(rng, video, names, config.questions)
        _, right = answer_loss(language_model, packer, videos.read(video, asked, rng), asked)
        for q, r in zip(asked, right.tolist(), strict=True):
            scores.setdefault(q.kind, []).append(r)
    language_model.train()
    return {k: round(float(np.mean(v)), 3) for k, v in sorted(scores.items())}


class _Trainable(nn.Module):
    """Only the low-rank weights in a checkpoint, not the frozen model around them."""

    def __init__(self, holder: nn.ModuleDict):
        super().__init__()
        self.names = list(holder)
        self.low = nn.ParameterList([holder[n].lora_A for n in self.names])
        self.high = nn.ParameterList([holder[n].lora_B for n in self.names])
