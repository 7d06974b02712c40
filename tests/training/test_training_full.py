"""Training at full size, on tiny random models of the very classes: what is trained is what is asked, and a run can be stopped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures import llava_data

from mambamia_cli.errors import InputError, ModelError, UsageError
from mambamia_cli.language import prompt
from mambamia_cli.training import full, full_config
from mambamia_cli.training.checkpoint import Run
from mambamia_cli.training.dialogue import IGNORED
from mambamia_cli.training.distributed import World
from mambamia_cli.training.feed import Feed
from mambamia_cli.training.full_build import build
from mambamia_cli.training.full_model import BOUNDARY, REST, boundaries
from mambamia_cli.training.llava import Rows

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models and data, made once; not to be changed."""
    folder = tmp_path_factory.mktemp("full")
    llava_data.write_vision(folder / "vision")
    llava_data.write_language(folder / "language")
    llava_data.write_data(folder)
    return folder


def recipe(place, **changes):
    values = {"vision": str(place / "vision"), "language_model": str(place / "language"), "data": (str(place / "data.json"),),
              "media": str(place / "media"), "frames": 6, "compressor": llava_data.COMPRESSOR, "log_every": 1, "max_length": 1024,
              "lora": full_config.LoraSettings(rank=4, alpha=8.0),
              "align": full_config.StageConfig(lr=5e-3, steps=4, accumulate=2), "tune": full_config.StageConfig(lr=5e-3, steps=4, accumulate=2)}  # fmt: skip
    return full_config.FullRecipe(**(values | changes))


def train(settings, work, stages=("align",), log=lambda text: None):
    full.run(settings, work, work / "model", stages, World(), log)
    return work


def metrics(work, stage, key="loss"):
    return [json.loads(line)[key] for line in (work / stage / "metrics.jsonl").read_text().splitlines() if '"validation"' not in line]


def weights(work, stage, part="compressor"):
    from safetensors.torch import load_file

    return load_file(work / stage / part / "model.safetensors")


@pytest.fixture(scope="module")
def chain(place):
    torch.manual_seed(0)
    return build(recipe(place), "align", None, World())[0]


@pytest.fixture(scope="module")
def examples(place, chain):
    training = full.Training(recipe(place), place / "unused", World(), print)
    from fractions import Fraction

    from mambamia_cli.training.llava import Reader

    reader = Reader(place / "media", tuple(chain.encoder.input_size), Fraction(2), 6)
    feed = Feed(training.rows, training.count, reader, 0, 2)
    return [feed.read(i) for i in (0, 1, 2, 3, 6)]


def test_layout_is_inferences_prompt_token_by_token(chain, examples):
    """The embeddings up to the answer are those of prompt.build, which `ask` calls, bit for bit."""
    for example in examples:
        tokens = chain.layout(example, example.footage.seconds)
        question, answer = example.row.turns[0]
        with torch.no_grad():
            shown = chain.watch([example.footage])[0][0]  # (m, t, width)
            expected = prompt.build(chain.lm, list(zip(example.footage.seconds, shown, strict=True)), question)
            table = chain.lm.model.get_input_embeddings().weight
            built = table[torch.tensor(tokens.ids)].masked_scatter(torch.tensor(tokens.visual)[:, None], shown.flatten(0, 1))
        begin = next(i for i, label in enumerate(tokens.labels) if label != IGNORED)
        assert begin == len(expected) and torch.equal(built[:begin], expected)
        wanted = [*chain.lm.tokenize(answer), 257]
        assert tokens.labels[begin : begin + len(wanted)] == wanted == tokens.ids[begin : begin + len(wanted)]


def test_later_turns_stand_as_the_template_has_them(chain, examples):
    row = examples[1].row
    assert len(row.turns) == 2
    tokens = chain.dialogue.layout(row.turns, [], 4)
    said = [{"role": "system", "content": prompt.SYSTEM}]
    for at, (question, answer) in enumerate(row.turns):
        # what `prompt` puts between the frames and the question
        said += [{"role": "user", "content": question if at else f"\n{question}"}, {"role": "assistant", "content": answer}]
    whole = chain.lm.tokenizer.render(said, reply=False).removesuffix("\n")
    assert chain.lm.tokenizer._tokenizer.decode(tokens.ids) == whole
    labelled = [i for i in tokens.labels if i != IGNORED]
    assert labelled == [*chain.lm.tokenize("blue"), 257, *chain.lm.tokenize("yes"), 257]


def test_rows_together_lose_what_they_lose_alone(chain, examples):
    """Padding, and videos of unlike lengths, change nothing: losses and gradients are sums over rows."""
    chain.compressor.eval()
    chain.zero_grad()
    together = chain(examples, 0.1)
    together.total.backward()
    gradient = chain.projector.fc2.weight.grad.clone()
    chain.zero_grad()
    alone = [chain([example], 0.1) for example in examples]
    for losses in alone:
        if losses.total.requires_grad:
            losses.total.backward()
    torch.testing.assert_close(together.total, sum(losses.total for losses in alone), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(gradient, chain.projector.fc2.weight.grad, rtol=1e-3, atol=1e-3)
    assert together.counted == {"image": 4 + 5 + 4, "video": 5 + 6, "text": 3}
    chain.zero_grad()
    chain.train()


def test_checkpointing_changes_no_gradient(place, chain, examples):
    plain = build(recipe(place, gradient_checkpointing=False), "align", None, World())[0]
    plain.compressor.load_state_dict(chain.compressor.state_dict())
    plain.projector.load_state_dict(chain.projector.state_dict())
    gradients = []
    for model in (chain, plain):
        model.zero_grad()
        torch.manual_seed(5)  # dropout is on
        model(examples[:4], 0.1).total.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    assert chain.lm.model.is_gradient_checkpointing and not plain.lm.model.is_gradient_checkpointing
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_delta_learns_from_the_answer_and_decides_what_is_read(chain, examples):
    chain.eval()
    chain.zero_grad()
    losses = chain([examples[3]], 0.0)
    assert losses.kept == 6
    losses.total.backward()
    assert chain.compressor.taa.delta_proj.weight.grad.abs().max() > 0
    with torch.no_grad():
        assert chain([examples[3]], 0.0, 0.5).kept == 3
        tokens, delta, _ = chain.watch([examples[3].footage])[0]
        keep, kept = chain._choose(examples[3], tokens, delta, 0.5)
        assert torch.equal(kept, tokens[keep])  # the gain is one
        assert chain([examples[0]], 0.0, 0.1).kept == 1  # a picture is not thinned
        short = replace_limit(chain, len(chain.layout(examples[3], []).ids) + 2 * 6)
        assert chain([examples[3]], 0.0).kept == 2  # no more room: chosen by delta, as `ask` does
        chain.max_length = short
    chain.zero_grad()
    chain.train()


def replace_limit(chain, limit):
    before, chain.max_length = chain.max_length, limit
    return before


def test_boundaries_are_where_features_jump(chain, examples):
    generator = torch.Generator().manual_seed(0)
    shots = [torch.randn(1, 4, 8, generator=generator) for _ in range(3)]
    patches = torch.cat([shot + 0.05 * torch.randn(6, 4, 8, generator=generator) for shot in shots])
    target = boundaries(patches)
    assert [i for i, v in enumerate(target.tolist()) if v == BOUNDARY] == [6, 12]
    assert (boundaries(shots[0].expand(9, -1, -1)) == REST).all()
    assert [i for i, v in enumerate(chain.watch([examples[3].footage])[0][2].tolist()) if v == BOUNDARY] == [3]  # red turns yellow
    delta = torch.tensor([9.0, REST, REST, BOUNDARY], requires_grad=True)
    assert chain.boundary_loss(delta, torch.tensor([REST, REST, REST, BOUNDARY])) == 0


def test_alone_and_as_two_processes_the_same_rows():
    """Positions of two processes are those of one with twice the accumulation, in every step."""
    settings = full_config.StageConfig(lr=1.0, batch=3, accumulate=2)

    def positions(rank, size, accumulate, step):
        training = full.Training.__new__(full.Training)
        training.world = World(rank, size)
        return [list(part) for part in training._positions(replace(settings, accumulate=accumulate), step, step + 1)]

    one = positions(0, 1, 4, 5)
    first, second = positions(0, 2, 2, 5), positions(1, 2, 2, 5)
    assert one == [first[0], second[0], first[1], second[1]] and one[0] == [60, 61, 62]


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    """Both stages on the usable rows until they are learned by heart."""
    settings = {"lr": 2e-2, "steps": 36, "accumulate": 1, "batch": 8}
    stages = {"align": full_config.StageConfig(**(settings | {"steps": 12})), "tune": full_config.StageConfig(**settings)}
    said: list[str] = []
    work = tmp_path_factory.mktemp("trained")
    lora = full_config.LoraSettings(rank=8, alpha=16.0, targets=("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
    train(recipe(place, held_out=1, evaluate_every=6, lora=lora, **stages), work, ("align", "tune"), said.append)
    return work, said


def test_losses_fall_and_bad_rows_are_counted(trained):
    work, said = trained
    align, tune = metrics(work, "align"), metrics(work, "tune")
    assert len(align) == 12 and len(tune) == 36
    assert sum(align[-3:]) < 0.92 * sum(align[:3])
    assert sum(tune[-3:]) < 0.2 * sum(align[:3])
    # one epoch is seven rows, two of which have no medium that can be read
    assert metrics(work, "align", "skipped")[-1] == pytest.approx(12 * 8 * 2 / 7, abs=2)
    rates = metrics(work, "tune", "lr")
    assert max(rates) == pytest.approx(2e-2, rel=0.01) and rates[-1] < 0.05 * max(rates)
    held = [json.loads(line) for line in (work / "align" / "metrics.jsonl").read_text().splitlines() if "held-out" in line]
    assert [row["step"] for row in held] == [6, 12]
    assert any("held out" in text for text in said) and any("left" in text for text in said)
    assert sum("  skipped: " in text for text in said) == full.TOLD and any("absent.mp4 is missing" in text for text in said)
    assert any(text.startswith("tune: skipped ") and "broken" in text and "missing" in text for text in said)
    assert (work / "align" / "metrics.png").stat().st_size > 10_000 and (work / "tune" / "metrics.png").is_file()


def test_the_folder_answers(place, trained):
    """`ask` with the folder written says what was trained, about a video that it decodes, encodes and compresses itself."""
    from mambamia_cli.pipeline import open_video

    folder = trained[0] / "model"
    config = json.loads((folder / "config.json").read_text())
    assert config["vision"] == str(place / "vision") and config["token_budget"] == 6 * 4
    assert (folder / "adapter" / "model.safetensors").is_file()
    video = open_video(place / "media" / "clips" / "green.mp4", model=str(folder), fps=2, max_frames=6, quant="fp32")
    assert video.ask("What colour is it?").answer == "mint"
    video = open_video(place / "media" / "clips" / "turn.mp4", model=str(folder), fps=2, max_frames=6, quant="fp32")
    assert video.ask("What comes last?").answer == "amber"


def test_stopped_and_resumed_is_bitwise_the_straight_run(place, trained, tmp_path, monkeypatch):
    """Killed between a checkpoint and the next, it does the steps in between again and ends with the same bits."""
    straight = train(recipe(place), tmp_path / "straight", ("align", "tune"))
    advance = Run.advance

    def fail(self):
        advance(self)
        if self.step == 2:
            self.save()
        if self.step == 4:  # the metrics of step 3 are written, its weights are not
            raise KeyboardInterrupt

    for stage in ("align", "tune"):
        monkeypatch.setattr(Run, "advance", fail)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(place), tmp_path / "stopped", (stage,))
        monkeypatch.setattr(Run, "advance", advance)
        torch.manual_seed(99)
        train(recipe(place), tmp_path / "stopped", (stage,))
    assert metrics(straight, "tune") == metrics(tmp_path / "stopped", "tune")
    assert metrics(straight, "tune", "skipped") == metrics(tmp_path / "stopped", "tune", "skipped")
    for stage, part in (("align", "compressor"), ("align", "projector"), ("tune", "compressor"), ("tune", "adapter")):
        one, two = weights(straight, stage, part), weights(tmp_path / "stopped", stage, part)
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    changed = weights(straight, "tune")
    assert any(not torch.equal(changed[name], tensor) for name, tensor in weights(straight, "align").items())


def test_adapter_over_four_bits(place, trained, tmp_path):
    """The base stays in 4 bits and frozen; its adapter learns, and merges into the folder that `ask` loads in 4 bits."""
    shutil.copytree(trained[0] / "align", tmp_path / "align")
    stage = full_config.StageConfig(lr=2e-2, steps=12, accumulate=1, batch=8)
    train(recipe(place, quant="nf4", held_out=1, evaluate_every=4, tune=stage), tmp_path, ("tune",))
    losses = metrics(tmp_path, "tune")
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    from mambamia_cli.pipeline import open_video

    video = open_video(place / "media" / "clips" / "green.mp4", model=str(tmp_path / "model"), quant="nf4", fps=2, max_frames=6)
    assert video.ask("What colour is it?", choices=["mint", "xylophone"]).answer == "mint"


def test_four_bit_base_is_four_bit_and_untouched(place, examples):
    import bitsandbytes

    model, adapters = build(recipe(place, quant="nf4"), "tune", None, World())
    bases = [adapter.base for adapter in adapters.values()]
    assert len(bases) == 8 and all(isinstance(base, bitsandbytes.nn.Linear4bit) for base in bases)
    trained = {id(p) for p in full._parameters(model) if p.requires_grad}
    assert trained == {id(p) for p in [*model.parameters(), *(p for a in adapters.values() for p in (a.lora_A, a.lora_B))]}
    gradients = []
    for _ in range(2):
        model.zero_grad()
        torch.manual_seed(0)
        model(examples[:1], 0.0).total.backward()
        gradients.append(model.projector.fc2.weight.grad.clone())
        model.lm.model.eval()  # a validation between: bitsandbytes would repack the layers for a kernel without gradients
        with torch.no_grad():
            model(examples[:1], 0.0)
        model.lm.model.train()
    assert gradients[0].abs().max() > 0 and torch.equal(*gradients)


@pytest.mark.slow
def test_in_bfloat16_it_learns_too(place, tmp_path):
    settings = recipe(place, precision="bf16", align=full_config.StageConfig(lr=2e-2, steps=10, accumulate=1, batch=8))
    losses = metrics(train(settings, tmp_path), "align")
    assert sum(losses[-3:]) < 0.92 * sum(losses[:3])
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path, "align").values())


@pytest.mark.slow
def test_the_whole_language_model(place, trained, tmp_path):
    from mambamia_cli.pipeline import open_video

    shutil.copytree(trained[0] / "align", tmp_path / "align")
    settings = recipe(place, lora=full_config.LoraSettings(rank=0), held_out=1,
                      tune=full_config.StageConfig(lr=3e-3, steps=40, accumulate=1, batch=8))  # fmt: skip
    train(settings, tmp_path, ("tune",))
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "model", moved)  # the folder holds its language model
    video = open_video(place / "media" / "clips" / "green.mp4", model=str(moved), fps=2, max_frames=6)
    assert video.ask("What colour is it?").answer == "mint"


def test_another_recipe_does_not_go_on_where_one_stopped(place, tmp_path):
    train(recipe(place), tmp_path)
    train(recipe(place, workers=1), tmp_path)  # does not decide what the weights become
    with pytest.raises(UsageError, match="begun with another seed"):
        train(recipe(place, seed=1), tmp_path)
    with pytest.raises(UsageError, match="begun with another lr"):
        train(recipe(place, align=full_config.StageConfig(lr=1e-3, steps=4, accumulate=2)), tmp_path)


def test_what_cannot_work_is_refused(place, tmp_path):
    with pytest.raises(UsageError, match="no finished stage align"):
        train(recipe(place), tmp_path, ("tune",))
    with pytest.raises(UsageError, match="no folder"):
        train(recipe(place, media=str(tmp_path / "absent")), tmp_path)
    with pytest.raises(UsageError, match="held out"):
        train(recipe(place, held_out=8), tmp_path)
    with pytest.raises(UsageError, match="cannot be trained"):
        recipe(place, quant="nf4", lora=full_config.LoraSettings(rank=0))
    rows = [{"image": f"{i}.png", "conversations": llava_data.turns("q", "a")} for i in range(80)]
    (tmp_path / "lost.json").write_text(json.dumps(rows))
    stage = full_config.StageConfig(lr=1e-3, accumulate=10)
    with pytest.raises(InputError, match="none of the first 50 rows"):
        train(recipe(place, data=(str(tmp_path / "lost.json"),), align=stage), tmp_path / "work")
    with pytest.raises(ModelError, match="projector does not fit"):
        build(recipe(place, projector={"output_width": 32}), "align", None, World())


def test_defaults_are_the_papers(place, tmp_path):
    given = {"vision": "a", "language_model": "b", "data": ("c",), "lr": None}
    settings = full_config.load(None, given)
    assert (settings.align.lr, settings.tune.lr, settings.seed, settings.frames) == (1e-4, 2e-5, 2025, 128)
    file = tmp_path / "r.toml"
    file.write_text('vision = "v"\nlanguage_model = "l"\ndata = "d.json"\n[tune]\nlr = 1e-5\n[lora]\nrank = 64\n')
    settings = full_config.load(file, {"frames": 64, "steps": 7})
    assert (settings.vision, settings.data, settings.frames) == ("v", ("d.json",), 64)
    assert (settings.tune.lr, settings.tune.steps, settings.align.lr, settings.lora.rank) == (1e-5, 7, 1e-4, 64)
    for bad, named in (("x = 1", "'x'"), ("[tune]\nrate = 1", "'rate'"), ("[compressor]\nd = 1", "'d'"), ("[tune]\nlr = -1.0", "lr")):
        file.write_text('vision = "v"\nlanguage_model = "l"\ndata = "d.json"\n' + bad)
        with pytest.raises(UsageError, match=named):
            full_config.load(file, {})
    with pytest.raises(UsageError, match="--data"):
        full_config.load(None, {"vision": "a", "language_model": "b"})


def test_rows_come_in_another_order_each_epoch(place):
    feed = Feed(Rows([place / "data.json"]), 8, None, 3, 1)
    epochs = [[feed.row_at(8 * e + i) for i in range(8)] for e in range(3)]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs) and len({tuple(e) for e in epochs}) == 3
    assert [feed.row_at(i) for i in range(8)] == epochs[0]


def test_paths_in_the_folder_last():
    assert full.lasting("Qwen/Qwen2-7B-Instruct") == "Qwen/Qwen2-7B-Instruct"
    assert full.lasting(".") == str(Path.cwd())


def test_an_adapter_over_a_language_model_of_the_hub(place, trained, tmp_path, monkeypatch):
    """A folder trained over a hub id, as Qwen/Qwen2-7B-Instruct is one: `ask` finds it in the cache and merges the adapter."""
    from huggingface_hub import constants

    from mambamia_cli.language.model import load_language_model

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(place / "language", repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    adapter = trained[0] / "model" / "adapter"
    here, there = (load_language_model(name, adapter=adapter, quant="fp32") for name in (str(place / "language"), "someone/tiny"))
    for name, weight in here.model.state_dict().items():
        assert torch.equal(weight, there.model.state_dict()[name])
    plain = load_language_model(str(place / "language"), quant="fp32").model.state_dict()
    assert not torch.equal(plain["model.layers.0.mlp.up_proj.weight"], here.model.state_dict()["model.layers.0.mlp.up_proj.weight"])
