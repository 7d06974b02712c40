"""`mambamia train`: packages -> features -> align -> tune -> a model folder, each stage resumable."""

import copy
import json
import shutil
from pathlib import Path

import torch

from mambamia_cli import models
from mambamia_cli.compressor.model import MambaMiaCompressor
from mambamia_cli.language.lexicon import SCENE
from mambamia_cli.language.spotter import POOLS, PROPOSED, Spotter, SpotterConfig, ViewReader, build_reader
from mambamia_cli.training import (
    align,
    calibrate,
    confidence,
    edges,
    features,
    packages,
    plotting,
    spotter,
    styles,
    tune,
    validation,
)
from mambamia_cli.training.config import Recipe


class Session:
    """A recipe being carried out in a work folder."""

    def __init__(self, recipe: Recipe, work: Path, log):
        self.recipe, self.work, self.log = recipe, work, log
        self.names = sorted(styles.object_names())
        # exp of a long decay underflows to denormals, which this kind of processor multiplies a hundred times slower.
        torch.set_flush_denormal(True)

    def data(self) -> None:
        """Fetch, render and encode: everything the later stages read."""
        packages.fetch_all(self.work, self.log)
        styles.load(self.work, self.log)
        for kind, shards in (("unseen", self.recipe.features.validation_shards), ("seen", self.recipe.features.validation_shards),
                             ("reels-held", self.recipe.features.validation_shards), ("reels", self.recipe.features.reel_shards),
                             ("views-unseen", self.recipe.features.validation_shards), ("views-seen", self.recipe.features.validation_shards),
                             ("views", self.recipe.features.view_shards), ("stills", self.recipe.features.still_shards),
                             ("train", self.recipe.features.shards)):
            self.log(f"encoding {shards} shards of kind {kind}")
            features.make(self.work, shards=shards, seed=self.recipe.seed, kind=kind)

    def cached(self, kind: str) -> features.FeatureSet:
        return features.load(features.folder_of(self.work, kind))

    def held(self) -> dict[str, features.FeatureSet]:
        return {kind: self.cached(kind) for kind in ("seen", "unseen")}

    def labels(self) -> list[str]:
        from mambamia_cli.vision import imagenet

        return imagenet.labels()

    def language_model(self):
        """The language model in float32 and its tokenizer, as transformers has them."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = models.resolve(self.recipe.language_model)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(folder)

    def lexicon(self) -> align.Lexicon:
        model, tokenizer = self.language_model()
        words = [*self.names, *self.labels(), SCENE]
        table = align.word_table(words, tokenizer, model.get_input_embeddings().weight.detach())
        return align.Lexicon(words, table)

    def align(self) -> align.Aligner:
        """Teacher, aggregator, the whole compressor, and the aggregator once more on edited video; each returns at once
        when it is done already."""
        recipe, lexicon = self.recipe, self.lexicon()
        stills = features.load_stills(features.folder_of(self.work, "stills"))
        material = align.Material(self.cached("train").halves()[0], stills, self.held())
        torch.manual_seed(recipe.seed)
        teacher = align.RowPool(recipe.compressor, recipe.projector, lexicon)
        align.train_teacher(teacher, material, self.work / "teacher", recipe.align, recipe.seed, self.log)
        torch.manual_seed(recipe.seed)
        aligner = align.Aligner(recipe.compressor, recipe.projector, copy.deepcopy(lexicon).requires_grad_(True))
        align.train_taa(aligner, teacher, material, self.work / "taa", recipe.align, recipe.seed, self.log)
        align.train(aligner, teacher, material, self.work / "align", recipe.align, recipe.seed, self.log)
        reels, held = (features.load_reels(features.folder_of(self.work, kind)) for kind in ("reels", "reels-held"))
        words = len(self.names), len(self.labels())
        rehearsal = align.Batches(material.shots, align.targets(material.shots, *words), recipe.align, recipe.seed, recipe.align.grid,
                                  align.Stills(stills, align.targets(stills, *words), recipe.align.grid), 0.4)
        edges.train(aligner, reels, held, rehearsal, self.work / "edges", recipe.edges, recipe.seed, self.log)
        return aligner

    def spotter(self, output: Path) -> None:
        """What reads the views of second looks, trained reader by reader and written; of the other stages it needs their words and, for
        a reader of the proposed kind, the compressor that `export` wrote."""
        recipe = self.recipe.spotter
        config = SpotterConfig(self.recipe.compressor, output_width=self.recipe.projector.output_width, readers=tuple(lesson.kind for lesson in recipe.readers))
        whole, words = Spotter(config), self.lexicon()
        views = features.load_stills(features.folder_of(self.work, "views"))
        held = {kind: features.load_stills(features.folder_of(self.work, f"views-{kind}")) for kind in ("seen", "unseen")}
        for r, lesson in enumerate(recipe.readers):
            seed = self.recipe.seed + r
            torch.manual_seed(seed)
            whole.readers[r] = reader = build_reader(lesson.kind, config)
            teachers: tuple[ViewReader, ...] = ()
            if lesson.kind != POOLS:
                teachers = tuple(whole.readers[:r].eval())
            if lesson.kind == PROPOSED:
                aligned = MambaMiaCompressor.from_pretrained(output / "compressor").state_dict()
                reader.stage.load_state_dict({name: aligned[name] for name in reader.stage.state_dict()})
            spotter.train(reader, words, views, held, self.work / f"spotter-{r}", recipe, lesson, seed, self.log, teachers=teachers)
        whole.eval().half().save_pretrained(output / "spotter")

    def tune(self) -> None:
        aligner = self.align()  # returns at once when that stage is done
        model, tokenizer = self.language_model()
        tune.train(aligner, model, tokenizer, self.cached("train").halves()[1], self.names, self.labels(), self.work / "tune", self.recipe.tune,
                   self.recipe.seed, self.log, self.held())

    def export(self, output: Path) -> None:
        """Write the model folder: compressor, projector, adapter, config.json. Replaces each part whole."""
        aligner = self.align()
        aligner.lexicon.common.copy_(calibrate.common(aligner, features.load_reels(features.folder_of(self.work, "reels"))))
        parts = {"compressor": aligner.compressor, "projector": aligner.projector, "lexicon": aligner.lexicon}
        for name, part in parts.items():
            part.eval().half().save_pretrained(output / name)
        adapter = self.work / "tune" / "adapter"
        if adapter.exists():
            shutil.copytree(adapter, output / "adapter", dirs_exist_ok=True)
        config = {"format": "mambamia/1", "name": self.recipe.name, "vision": self.recipe.vision,
                  "language_model": self.recipe.language_model, "token_budget": self.recipe.token_budget, "overlap": self.recipe.overlap, "scenes": self.recipe.scenes, "evidence": self.recipe.evidence,
                  "objects": self.names}
        (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    def calibrate(self, output: Path) -> None:
        """What the numbers of the written model mean, from videos of a seed that nothing else uses."""
        folder = self.work / "calibration"
        validation.make(self.work, folder, count=self.recipe.features.calibration_videos, seed=self.recipe.seed + 1, log=self.log)
        confidence.write(confidence.calibrate(str(output), folder, self.log), output)


def run(recipe: Recipe, work: Path, output: Path, stages: tuple[str, ...], log) -> None:
    """Carry out `stages` in order. Raises the errors of errors.py."""
    session = Session(recipe, work, log)
    for stage in stages:
        log(f"stage {stage}")
        if stage in ("spotter", "export", "calibrate"):
            getattr(session, stage)(output)
        else:
            getattr(session, stage)()
        if stage in ("align", "spotter", "tune"):
            plotting.draw_all(work)
