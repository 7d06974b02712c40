"""Views as a second look takes them, and the reader that learns from them."""

import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.errors import UsageError
from mambamia_cli.language.lexicon import Lexicon
from mambamia_cli.language.spotter import SpotterConfig, build_reader
from mambamia_cli.training import config, features, shards, spotter, views
from mambamia_cli.training.needles import Haystack
from mambamia_cli.training.styles import Drawing

WIDTH, WORDS = 16, 6


@pytest.fixture(scope="module")
def stack():
    """Grey photographs, and two drawings that fill their square, one in the style that is favoured."""
    rng = np.random.default_rng(0)
    photos = {str(i): np.full((500, 900, 3), 90 + 10 * i, np.uint8) for i in range(3)}
    clips = {"c": rng.integers(80, 100, (9, 120, 160, 3), dtype=np.uint8)}
    pictures = np.full((3, 64, 64, 4), 255, np.uint8)
    return Haystack(photos, clips, [Drawing("cat", "noto", 0), Drawing("dog", "other", 1), Drawing("", "distractor", 2)], pictures)


def test_what_is_named_is_seen_and_what_is_cut_off_is_not_named(stack):
    rng, named, edges, bare = np.random.default_rng(1), [], [], 0
    for _ in range(400):
        film = views.random_view(stack, rng)
        assert film.frame(0.5).shape == (views.SIDE, views.SIDE, 3)
        bare += not any(t.name for t in film.tracks)
        for t in film.tracks:
            part = views.seen_part(t.begin, t.height) / min(1.0, 1 / t.height**2)
            (named if t.name else edges).append(part)
    assert min(named) >= 0.4 and np.quantile(named, 0.05) >= views.NAMED - 0.01  # two side by side may be cut a little more
    assert min(edges) < views.FRAGMENT and 60 < bare < 150


def test_the_part_of_a_drawing_that_is_seen():
    assert views.seen_part((0.5, 0.5), 0.5) == 1.0
    assert views.seen_part((0.0, 0.5), 0.5) == pytest.approx(0.5)
    assert views.seen_part((0.0, 1.0), 0.5) == pytest.approx(0.25)
    assert views.seen_part((1.3, 0.5), 0.5) == 0.0
    assert views.seen_part((0.5, 0.5), 2.0) == pytest.approx(0.25)


def test_a_shard_is_made_of_its_number_and_says_where_drawings_are(stack, tmp_path):
    """The truth against the pixels: inside of a lone drawing's box the picture is bright, and the encoder is given that picture."""

    class Eye:
        input_size, given = (views.SIDE, views.SIDE), []

        def encode_and_classify(self, pixels):
            self.given.append(pixels)
            grid = torch.nn.functional.adaptive_avg_pool2d(pixels.float(), (7, 7)).flatten(2).transpose(1, 2)  # (m, 49, 3)
            return grid, torch.zeros(len(pixels), 1000)

    cv2.setNumThreads(1)
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        views.write_shard(3, stack, Eye(), {"cat": 0, "dog": 1}, 7, folder)
    first, again = (features.load_stills(tmp_path / name) for name in "ab")
    assert len(first) == shards.STILLS_A_SHARD and np.array_equal(first.shards[0], again.shards[0])
    lone = np.flatnonzero((first.names[:, 0] >= 0) & (first.names[:, 1] < 0) & ~first.distractor)
    inside, outside = [], []
    for i in lone:
        left, top, right, bottom = (round(float(v) * 7) for v in first.boxes[i])
        grid = first.patches(i).reshape(7, 7, 3).mean(-1)
        box = np.zeros((7, 7), bool)
        box[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
        if box.any() and not box.all():
            inside.append(grid[box].mean())
            outside.append(grid[~box].mean())
    assert len(inside) > 150 and np.mean(np.array(inside) > np.array(outside) + 15) > 0.6  # some are recoloured, tinted, paler


@pytest.fixture
def data():
    """Views whose patches carry their name plainly in one corner."""
    rng = np.random.default_rng(0)
    names = rng.integers(-1, WORDS, 512)
    code = 2 * rng.normal(size=(WORDS + 1, 8)).astype(np.float32)
    patches = 0.1 * rng.normal(size=(512, 4, 8)) + np.where(np.arange(4)[None, :, None] == 1, code[names][:, None], 0)
    boxes = np.where(names[:, None] >= 0, np.array([[0.5, 0.0, 1.0, 0.5]]), np.nan)
    return features.StillSet([patches.astype(np.float16)], np.stack([names, np.full(512, -1)], 1), np.full((512, 2), -1), np.zeros(512, bool), boxes)


ROWS = CompressorConfig(vision_width=8, hidden_size=16, grid_rows=2, patches_per_row=2, num_layers=2, state_size=8, head_dim=8, chunk_size=16)


def reader(kind="view-pools"):
    torch.manual_seed(0)
    words = [str(i) for i in range(WORDS + 1001)]
    return build_reader(kind, SpotterConfig(ROWS, 2, 8, 32, WIDTH, 2)), Lexicon(words, torch.randn(len(words), WIDTH))


SMALL = spotter.SpotterTraining(swap=0.5)
LESSON = spotter.Lesson(steps=240, views=64, lr=5e-3)


def test_it_learns_to_name_views_before_any_background(tmp_path, data):
    model, words = reader()
    before = spotter.evaluate(lambda p: spotter.naming(model, words, p), model, data, WORDS)
    spotter.train(model, words, data, {"held": data}, tmp_path, SMALL, LESSON, 1, lambda text: None, (2, 2))
    after = spotter.evaluate(lambda p: spotter.naming(model, words, p), model, data, WORDS)
    assert after["free"] > 0.9 > before["free"] + 0.5 and after["invented"] < 0.15
    assert after["middle"] == after["free"] and np.isnan(after["large"])  # every box is half of the view
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["validation"] == "held" and rows[-1]["step"] == 240


def test_the_proposed_reader_learns_from_names_and_from_what_another_reader_says(tmp_path, data):
    """A teacher that has learned, and views without names: what the pupil then knows it has from the teacher."""
    teacher, words = reader()
    spotter.train(teacher, words, data, {}, tmp_path / "teacher", SMALL, LESSON, 1, lambda text: None, (2, 2))
    teacher.eval()
    score = lambda model: spotter.evaluate(lambda p: spotter.naming(model, words, p), model, data, WORDS)
    nameless = dataclasses.replace(data, names=np.full_like(data.names, -1))
    pupils = {}
    for taught in (0.0, 1.0):
        pupils[taught], _ = reader("proposed")
        lesson = spotter.Lesson("proposed", steps=150, views=64, lr=5e-3)
        config = spotter.SpotterTraining(swap=0.0, taught=taught)
        spotter.train(pupils[taught], words, nameless, {}, tmp_path / f"pupil-{taught}", config, lesson, 1, lambda text: None, (2, 2), (teacher,))
    assert score(teacher)["free"] > 0.9 and score(pupils[1.0])["free"] > 0.8 and score(pupils[0.0])["free"] < 0.1


@pytest.mark.parametrize(("tables", "said"), [
    ('[[spotter.readers]]\nkind = "pool"', "kind must be one of view-pools, proposed"), ('[[spotter.readers]]\nkind = "proposed"', "the first of the readers must be of view-pools"),
    ('[[spotter.readers]]\nstep = 3', "unknown key 'step' in [[spotter.readers]] of r.toml"), ("[spotter]\nreaders = []", "the first of the readers"),
    ('[spotter]\nreaders = ["view-pools"]', "is no list of tables"), ("[spotter]\nsteps = 3", "unknown key 'steps' in [spotter]"),
])  # fmt: skip
def test_a_recipe_of_readers_that_cannot_be_is_refused(tmp_path, tables, said):
    (tmp_path / "r.toml").write_text(tables)
    with pytest.raises(UsageError, match=re.escape(said)):
        config.load(tmp_path / "r.toml")


def test_the_shipped_recipe_has_the_shipped_readers():
    folder = Path(__file__).parents[2] / "weights" / "mambamia-tiny"
    made = json.loads((folder / "spotter" / "config.json").read_text())["readers"]
    assert [lesson.kind for lesson in config.load(folder / "train.toml").spotter.readers] == made


def test_a_work_folder_of_another_recipe_is_refused_in_words(tmp_path, data):
    model, words = reader()
    short = dataclasses.replace(LESSON, steps=2)
    spotter.train(model, words, data, {}, tmp_path, SMALL, short, 1, lambda text: None, (2, 2))
    with pytest.raises(UsageError, match="of another recipe"):
        spotter.train(reader("proposed")[0], words, data, {}, tmp_path, SMALL, short, 1, lambda text: None, (2, 2))


def test_a_stopped_run_goes_on_where_it_stood(tmp_path, data, monkeypatch):
    straight, words = reader()
    spotter.train(straight, words, data, {}, tmp_path / "a", SMALL, LESSON, 1, lambda text: None, (2, 2))
    stopped, _ = reader()

    def interrupt(text):
        raise KeyboardInterrupt

    monkeypatch.setattr("mambamia_cli.training.checkpoint.EVERY_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        spotter.train(stopped, words, data, {}, tmp_path / "b", SMALL, LESSON, 1, interrupt, (2, 2))
    resumed, _ = reader()
    spotter.train(resumed, words, data, {}, tmp_path / "b", SMALL, LESSON, 1, lambda text: None, (2, 2))
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
