"""`mambamia train --vision V --llm L --data FILE`: align and tune on LLaVA-format data, at any size, on one or many cards.

Stage align trains the compressor and the projector through the frozen language model; stage tune trains them on with a
low-rank adapter of the language model (or all of it). Both save at least every 45 seconds and go on where they were stopped.
"""

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mambamia_cli.errors import InputError, UsageError
from mambamia_cli.language import lora
from mambamia_cli.training import plotting
from mambamia_cli.training.checkpoint import Run, cosine, set_rate
from mambamia_cli.training.distributed import World
from mambamia_cli.training.feed import Feed, MicroBatch
from mambamia_cli.training.full_config import STAGES, FullRecipe, StageConfig
from mambamia_cli.training.full_model import Losses, VideoModel
from mambamia_cli.training.llava import KINDS, REASONS, Reader, Rows

TOLD = 5  # skipped rows that are told of one by one; the others are counted
HOPELESS = 50  # rows at the very beginning of which none can be used: the media folder is wrong
FREE = ("workers", "log_every", "evaluate_every", "init", "name", "media")  # may change when a run is resumed
FORMAT = "mambamia/1"


@dataclass
class Tally:
    """What has been counted since the last report, and rows skipped since the beginning. Summed over the processes."""

    sums: Counter = field(default_factory=Counter)
    skipped: Counter = field(default_factory=Counter)

    KEYS = ("answer", "delta", "tokens", "kept", "examples", *(f"right {k}" for k in KINDS), *(f"counted {k}" for k in KINDS),
            *(f"skipped {r}" for r in REASONS))  # fmt: skip

    @classmethod
    def of(cls, here: Counter, world: World, device: str) -> "Tally":
        values = world.sum(torch.tensor([float(here[key]) for key in cls.KEYS], dtype=torch.float64, device=device))
        sums = Counter(dict(zip(cls.KEYS, values.tolist(), strict=True)))
        return cls(sums, Counter({reason: int(sums[f"skipped {reason}"]) for reason in REASONS}))

    def add(self, other: "Tally") -> None:
        self.sums.update(other.sums)
        self.skipped.update(other.skipped)

    def scores(self) -> dict[str, float]:
        """Losses a token, and by kind the share of answer tokens that were the model's first choice."""
        tokens = max(1.0, self.sums["tokens"])
        shares = {kind: self.sums[f"right {kind}"] / n for kind in KINDS if (n := self.sums[f"counted {kind}"])}
        return {key: round(v, 5) for key, v in {"loss": self.sums["answer"] / tokens, "delta": self.sums["delta"] / tokens, **shares}.items()}

    def state_dict(self) -> dict:
        return {"skipped": dict(self.skipped)}

    def load_state_dict(self, state: dict) -> None:
        self.skipped = Counter(state["skipped"])


def count(into: Counter, losses: Losses, rows: int) -> None:
    into.update(answer=losses.answer, delta=losses.delta, tokens=losses.tokens, kept=losses.kept, examples=rows)
    into.update({f"right {kind}": n for kind, n in losses.right.items()})
    into.update({f"counted {kind}": n for kind, n in losses.counted.items()})


class Training:
    """A recipe being carried out in a work folder by one of the processes of `world`."""

    def __init__(self, recipe: FullRecipe, work: Path, world: World, log):
        self.recipe, self.work, self.world = recipe, work, world
        self.log = log if world.main else lambda text: None
        self.rows = Rows([Path(p) for p in recipe.data])
        self.count = len(self.rows) - recipe.held_out
        if self.count < 1:
            raise UsageError(f"{recipe.held_out} rows held out leave none of {len(self.rows)} to train on", "lower held_out")
        if not Path(recipe.media).is_dir():
            raise UsageError(f"there is no folder {recipe.media}", "name the folder of the images and videos with --media")
        self._told = 0

    def build(self, stage: str) -> VideoModel:
        """The models of a stage, on this process's device, with the weights that the stage before left."""
        from mambamia_cli.training.full_build import build

        self.log(f"{stage}: loading {self.recipe.vision} and {self.recipe.language_model}")
        return build(self.recipe, stage, self.start_of(stage), self.world)

    def start_of(self, stage: str) -> Path | None:
        """The folder whose compressor and projector a stage begins with; None: random weights."""
        if self.recipe.init is not None:
            return Path(self.recipe.init)
        aligned = self.work / "align"
        if stage == "align":
            return None
        if not (aligned / "projector" / "config.json").is_file():
            raise UsageError(f"{self.work} holds no finished stage align to tune from", "run --stage align first or give --init a model folder")
        return aligned

    def carry_out(self, stage: str) -> None:
        """Train a stage to its end; nothing is done when it is done already."""
        settings: StageConfig = getattr(self.recipe, stage)
        together = settings.batch * settings.accumulate * self.world.size
        steps = settings.steps or max(1, math.ceil(settings.epochs * self.count / together))
        folder = self.work / stage
        self._same_recipe(folder, stage, together, steps)
        torch.manual_seed(self.recipe.seed)  # every process begins with the same weights
        model, adapters = self.build(stage)
        trained = [p for p in _parameters(model) if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay, betas=(0.9, 0.999))
        tally = Tally()
        run = Run(folder, {"trained": nn.ParameterList(trained), "optimizer": optimizer, "tally": tally}, write=self.world.main)
        self.world.barrier()  # all have read the same checkpoint before the first writes another
        if run.step < steps:
            what = f"{sum(p.numel() for p in trained):,} trained parameters, {self.count:,} rows, {together} a step on {self.world.size} process(es)"
            self.log(f"{stage}: step {run.step} of {steps}; {what}")
        reader = Reader(Path(self.recipe.media), tuple(model.encoder.input_size), Fraction(str(self.recipe.fps)), self.recipe.frames)
        feed = Feed(self.rows, self.count, reader, self.recipe.seed, self.recipe.workers)
        batches = feed.micro_batches(self._positions(settings, run.step, steps))
        report = Tally()
        began, first = run.elapsed, run.step
        while run.step < steps:
            rate = settings.lr * cosine(run.step, steps, warmup=max(1, round(settings.warmup * steps)))
            set_rate(optimizer, rate, 1.0)
            here = Counter()
            for _ in range(settings.accumulate):
                self._accumulate(model, next(batches), stage, settings, here)
            done = Tally.of(here, self.world, model.lm.device)
            norm = self._step(optimizer, trained, done.sums["tokens"], settings.clip)
            tally.skipped.update(done.skipped)
            report.add(done)
            self._hopeful(run.step, together, tally, done)
            run.advance()
            if run.step % self.recipe.log_every == 0 or run.step == steps:
                pace = (run.elapsed - began) / (run.step - first)
                self._report(stage, run, steps, report, tally, rate, norm, pace)
                report = Tally()
            if self.recipe.held_out and (run.step % self.recipe.evaluate_every == 0 or run.step == steps):
                scores = self.evaluate(model, feed)
                run.log(validation="held-out", **scores)
                self.log(f"  held out: {json.dumps(scores)}")
        run.save()
        if tally.skipped.total():
            self.log(f"{stage}: skipped " + ", ".join(f"{n} {reason}" for reason, n in tally.skipped.items() if n))
        self._finish(model, adapters, folder)

    def _positions(self, settings: StageConfig, step: int, steps: int) -> Iterator[range]:
        """This process's micro-batches from `step` on. Two processes take together what one takes with twice the accumulation."""
        world, batch = self.world, settings.batch
        for micro in range(step * settings.accumulate, steps * settings.accumulate):
            begin = (micro * world.size + world.rank) * batch
            yield range(begin, begin + batch)

    def _accumulate(self, model: VideoModel, batch: MicroBatch, stage: str, settings: StageConfig, here: Counter) -> None:
        """Add a micro-batch's gradients. Its dropout and choices follow from its position alone."""
        key = (self.recipe.seed, STAGES.index(stage), batch.position)
        rng = np.random.default_rng(key)
        torch.manual_seed(int(rng.integers(1 << 62)))
        part = float(rng.uniform(*settings.kept)) if rng.random() < settings.select else None
        examples = self._fitting(model, batch, here)
        if not examples:
            return
        losses = model(examples, settings.delta_weight, part)
        if losses.total.requires_grad:  # rows without a medium have nothing to teach while the language model is frozen
            losses.total.backward()
        count(here, losses, len(examples))

    def _fitting(self, model: VideoModel, batch: MicroBatch, here: Counter) -> list:
        examples = [e for e in batch.examples if model.room(e) >= 1]
        here.update({f"skipped {reason}": n for reason, n in batch.skipped.items()})
        for text in batch.why[: max(0, TOLD - self._told)]:
            self._told += 1
            self.log(f"  skipped: {text}")
        here["skipped too long"] += len(batch.examples) - len(examples)
        return examples

    def _step(self, optimizer, trained: list[nn.Parameter], tokens: float, clip: float) -> float:
        """Gradients of the mean over the answer tokens of all processes, clipped, and a step; none where there was nothing."""
        self.world.sum_gradients(trained)
        norm = 0.0
        if tokens:
            for p in trained:
                if p.grad is not None:
                    p.grad.div_(tokens)
            norm = float(nn.utils.clip_grad_norm_(trained, clip))
            if math.isfinite(norm):  # one bad batch must not end as weights that are not numbers
                optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _hopeful(self, step: int, together: int, tally: Tally, done: Tally) -> None:
        """Refuse to go through a whole data set of which nothing can be read."""
        skipped = sum(tally.skipped.values())
        if not done.sums["examples"] and skipped >= max(HOPELESS, together) and skipped >= (step + 1) * together:
            most, n = tally.skipped.most_common(1)[0]
            raise InputError(f"none of the first {skipped} rows can be used ({n} {most})", "check --media: paths in the data are relative to it")

    def _report(self, stage: str, run: Run, steps: int, report: Tally, tally: Tally, rate: float, norm: float, pace: float) -> None:
        scores, lost = report.scores(), sum(tally.skipped.values())
        run.log(**scores, lr=rate, grad_norm=round(norm, 5), tokens=int(report.sums["tokens"]), examples=int(report.sums["examples"]),
                kept=int(report.sums["kept"]), skipped=lost)  # fmt: skip
        shares = " ".join(f"{kind} {scores[kind]:.3f}" for kind in KINDS if kind in scores)
        left = f"{pace:.2f} s a step, {(steps - run.step) * pace / 60:.0f} min left"
        self.log(f"{stage} {run.step}/{steps} loss {scores['loss']:.4f} {shares} delta {scores['delta']:.3f} lr {rate:.2e} skipped {lost}; {left}")

    @torch.no_grad()
    def evaluate(self, model: VideoModel, feed: Feed) -> dict[str, float]:
        """The losses and scores of the held-out rows, without selection and dropout; each process takes its share."""
        model.eval()
        model.lm.model.eval()
        indices = range(self.count, len(self.rows))[self.world.rank :: self.world.size]
        here = Counter()
        for batch in feed.micro_batches((range(i, i + 1) for i in range(len(indices))), indices):
            for example in self._fitting(model, batch, here):
                count(here, model([example], 0.0), 1)
        model.train()
        model.lm.model.train()
        return Tally.of(here, self.world, model.lm.device).scores()

    def _same_recipe(self, folder: Path, stage: str, together: int, steps: int) -> None:
        """Refuse to go on with another recipe than the one a stage was begun with: the result would be of neither."""
        recipe = dataclasses.asdict(self.recipe)
        for key in (*FREE, *STAGES):
            recipe.pop(key)
        settings = dataclasses.asdict(getattr(self.recipe, stage))
        for key in ("batch", "accumulate", "epochs", "steps"):
            settings.pop(key)
        recipe |= settings | {"rows": len(self.rows), "rows a step": together, "steps": steps}
        recipe["data"] = [hashlib.file_digest(open(p, "rb"), "sha256").hexdigest()[:16] for p in self.rows.paths]  # noqa: SIM115
        recipe = json.loads(json.dumps(recipe))
        path = folder / "recipe.json"
        if path.exists():
            before = json.loads(path.read_text())
            changed = sorted(key for key in recipe if recipe[key] != before.get(key))
            if changed:
                raise UsageError(f"stage {stage} in {self.work} was begun with another {changed[0]}", "restore it, or use another --work folder")
        elif self.world.main:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, recipe)

    def _finish(self, model: VideoModel, adapters: dict, folder: Path) -> None:
        if self.world.main:
            model.compressor.save_pretrained(folder / "compressor")
            model.projector.save_pretrained(folder / "projector")
            if adapters:
                settings = lora.LoraConfig(self.recipe.lora.rank, self.recipe.lora.alpha, tuple(self.recipe.lora.targets))
                lora.save_adapter(adapters, settings, folder / "adapter")
            elif folder.name == "tune":
                save_language(model.lm, folder / "language", model.precision)
            plotting.draw(folder / plotting.METRICS)
        self.world.barrier()

    def export(self, stage: str, output: Path) -> None:
        """The result of a stage as a model folder that `ask` loads."""
        if not self.world.main:
            return
        source = self.work / stage
        for part in ("compressor", "projector", "adapter", "language"):
            shutil.rmtree(output / part, ignore_errors=True)
            if (source / part).is_dir():
                shutil.copytree(source / part, output / f".{part}.tmp", dirs_exist_ok=True)
                os.replace(output / f".{part}.tmp", output / part)
        tokens = json.loads((source / "projector" / "config.json").read_text())["tokens_per_frame"]
        language = "./language" if (source / "language").is_dir() else lasting(self.recipe.language_model)
        write_json(output / "config.json", {"format": FORMAT, "name": self.recipe.name, "vision": lasting(self.recipe.vision),
                                            "language_model": language, "token_budget": self.recipe.frames * tokens})  # fmt: skip
        self.log(f"wrote {output}")


def _parameters(model: VideoModel) -> Iterator[nn.Parameter]:
    """All parameters, the language model's too, each once, in a fixed order."""
    yield from model.parameters()
    yield from model.lm.model.parameters()


def save_language(lm, folder: Path, precision: torch.dtype) -> None:
    """A language model that was trained itself, in the precision that it was trained in."""
    state = {name: tensor.to(precision) for name, tensor in lm.model.state_dict().items()}
    lm.model.config.dtype = precision
    lm.model.save_pretrained(folder, state_dict=state)
    lm.tokenizer.save(folder)


def lasting(name: str) -> str:
    """A folder's name that holds from anywhere; other names as they are."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def write_json(path: Path, value: dict) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(temporary, path)


def run(recipe: FullRecipe, work: Path, output: Path, stages: tuple[str, ...], world: World, log) -> None:
    """Carry out `stages` in order and write the model folder after each. Raises the errors of errors.py."""
    from mambamia_cli.language.model import memory_guard

    training = Training(recipe, work, world, log)
    for stage in stages:
        with memory_guard("training", "fewer frames, a smaller batch or --quant nf4"):
            training.carry_out(stage)
        training.export(stage, output)
