"""Second looks: which moments, which views, and what becomes of a word's curve."""

import numpy as np
import pytest
import torch

from mambamia_cli import open_video
from mambamia_cli.compressor.config import CompressorConfig
from mambamia_cli.language.matching import MatchRule
from mambamia_cli.pipeline import Models
from mambamia_cli.pipeline.relook import MOST, SecondLook, corrected, moments, swept, windows
from mambamia_cli.scenes.peaks import PeakRule

TIMES = np.arange(40) / 4  # ten seconds


@pytest.fixture(scope="module")
def look(tiny_model, numbered):
    models = Models(str(tiny_model), device="cpu", threads=1)
    return SecondLook(open_video(numbered.path, models=models, fps=8).index(), models)


def curve(*peaks: tuple[int, float]) -> np.ndarray:
    """Log-odds of -8 everywhere but at peaks three frames wide."""
    odds = np.full(40, -8.0)
    for frame, height in peaks:
        odds[frame - 1 : frame + 2] = height - 1, height, height - 1
    return odds


def test_moments_are_the_best_and_apart():
    assert moments(curve((10, 3.0), (12, 2.0), (30, 1.0)), TIMES) == [10, 30]
    assert moments(np.array([1.0, 2.0]), TIMES[:2]) == [1]  # no second one


def test_a_stretch_moves_with_its_moment_and_the_rest_stays_below_what_was_looked_at():
    before = curve((10, 3.0), (20, 2.5), (30, 2.0))
    after = corrected(before, TIMES, {10: -5.0, 20: 6.0}, drop=4.0)
    assert after[10] == -5.0 and after[20] == 6.0 and int(after.argmax()) == 20
    np.testing.assert_allclose(after[[9, 11, 19, 21]], [-6.0, -6.0, 5.0, 5.0])
    assert after[30] == -5.0  # it was less likely than both and was not looked at
    assert (after[[0, 15, 39]] == -8.0).all()


def test_two_moments_of_one_long_stretch_share_it():
    long = np.full(40, 2.0)
    after = corrected(long, TIMES, {10: 5.0, 30: -3.0}, drop=4.0)
    assert after[10] == 5.0 and after[30] == -3.0 and (after[5:21] == 5.0).all() and (after[21:35] == -3.0).all()  # the frame midway goes to one of them


def test_no_frame_between_two_moments_is_left_to_nobody():
    """The moment in the middle is near to one and far from the other: it rules half the way to each."""
    after = corrected(np.full(40, 2.0), TIMES, {6: 5.0, 20: 6.0, 22: 7.0}, drop=4.0)
    assert (after[:13] == 5.0).all() and (after[14:21] == 6.0).all() and (after[22:] == 7.0).all() and after[[13, 21]].min() >= 5.0


def test_the_views_are_the_frame_and_windows_of_it_enlarged(look, numbered):
    """Against plain decoding: every view is cut out where it should be."""
    from mambamia_cli.video.grab import grab

    views = look.views([3, 12])  # (k, v, 3, H, W)
    high, wide = look._models.encoder.input_size
    assert views.shape == (2, 15, 3, high, wide)
    times = [look._index.times[i] for i in (3, 12)]

    def enlarged(height, width):
        return torch.from_numpy(grab(numbered.path, times, (height, width))).permute(0, 3, 1, 2)

    assert torch.equal(views[:, 0], enlarged(high, wide))
    some, twice = enlarged(round(high * 10 / 7), round(wide * 10 / 7)), enlarged(2 * high, 2 * wide)
    assert torch.equal(views[:, 1], some[..., :high, :wide]) and torch.equal(views[:, 4], some[..., -high:, -wide:])
    assert torch.equal(views[:, 3], some[..., -high:, :wide])
    assert torch.equal(views[:, 6], twice[..., :high, :wide]) and torch.equal(views[:, 14], twice[..., high:, wide:])
    assert torch.equal(views[:, 10], twice[..., high // 2 : high // 2 + high, wide // 2 : wide // 2 + wide])


def test_each_view_is_read_on_its_own_and_kept(look):
    """What else is looked at changes no number, and a moment is read once."""
    alone, together = look.tokens([3]), SecondLook(look._index, look._models).tokens([12, 3, 7])
    torch.testing.assert_close(alone[0], together[1], rtol=2e-3, atol=2e-3)  # float16
    assert not torch.allclose(together[0], together[2])
    look._read = None  # a second reading would fail
    assert torch.equal(look.tokens([3, 3]), torch.cat([alone, alone]))


@pytest.fixture(scope="module")
def closer(tiny_model, numbered, tmp_path_factory):
    """A second look of a model that has a reader of single views."""
    import shutil

    from mambamia_cli.language.lexicon import Lexicon
    from mambamia_cli.language.spotter import Spotter, SpotterConfig

    folder = tmp_path_factory.mktemp("closer") / "tiny"
    shutil.copytree(tiny_model, folder)
    Lexicon(["cat", "dog", "scene"], torch.randn(3, 64)).save_pretrained(folder / "lexicon")
    Spotter(SpotterConfig(hidden_width=32, output_width=64, readers=("view-pools", "proposed"))).save_pretrained(folder / "spotter")
    models = Models(str(folder), device="cpu", threads=1)
    return SecondLook(open_video(numbered.path, models=models, fps=8).index(), models)


@pytest.mark.parametrize("shape", [(360, 640), (640, 360), (480, 480), (200, 3000), (1080, 1440)])
def test_windows_cover_a_frame_of_any_shape_without_bending_it(shape):
    for (high, wide), places in windows(shape, 224):
        assert wide / high == pytest.approx(min(max(shape[1] / shape[0], 1 / 4), 4), rel=0.01)
        seen = np.zeros((high, wide), int)
        for top, left in places:
            assert 0 <= top <= high - 224 and 0 <= left <= wide - 224
            seen[top : top + 224, left : left + 224] += 1
        assert seen.all()
    assert sum(len(places) for _, places in windows((360, 640), 224)) == 11


def test_a_reader_of_single_views_reads_windows_that_keep_the_frames_shape(closer, numbered):
    from mambamia_cli.video.grab import grab

    models, index = closer._models, closer._index
    tokens = closer.tokens([3])[0]  # (v, r, t, width)
    picked = []
    for size, places in windows((index.info.height, index.info.width), 224):
        picture = torch.from_numpy(grab(numbered.path, [index.times[3]], size)).permute(0, 3, 1, 2)
        picked += [picture[..., top : top + 224, left : left + 224] for top, left in places]
    with torch.inference_mode():
        expected = models.spotter(models.encoder.encode(torch.cat(picked).contiguous()))
    torch.testing.assert_close(tokens, expected, rtol=2e-3, atol=2e-3)  # float16
    read, _ = closer.words(models.lexicon)
    assert read.words == models.lexicon.words and read.log_scale is models.spotter.readers[0].log_scale


def test_without_such_a_reader_the_words_are_the_lexicons_own(look):
    assert look._models.spotter is None and look.words(None) == [None]
    assert look.tokens([3]).shape[2] == 1


def test_readers_count_by_their_mean_log_odds_and_views_by_their_mean_odds(closer):
    """Against the plain sums: two readers that differ, eleven views that differ."""
    closer._models.spotter.readers[1].log_scale.data.fill_(1.0)
    measure = lambda words, tokens: words.scores(tokens).amax(1).T
    found = closer.odds([2, 5], closer._models.lexicon, measure)  # (w, k)
    tokens, words = closer.tokens([2, 5]), closer.words(closer._models.lexicon)
    for k in range(2):
        views = [sum(words[r].scores(view[r]).amax(0) for r in range(2)) / 2 for view in tokens[k]]  # (w,) each
        expected = torch.stack(views).exp().mean(0).log()
        np.testing.assert_allclose(found[:, k], expected.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_many_moments_are_read_as_each_alone(closer, monkeypatch):
    """They are decoded in groups, each while the one before is read."""
    monkeypatch.setattr("mambamia_cli.pipeline.relook._GROUP", 2)
    frames = [7, 1, 5, 3, 9]
    together = SecondLook(closer._index, closer._models).tokens(frames)
    for k, frame in enumerate(frames):
        torch.testing.assert_close(together[k], SecondLook(closer._index, closer._models).tokens([frame])[0], rtol=0, atol=2e-3)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_a_reader_that_does_not_fit_the_encoder_is_refused(closer, tmp_path):
    import shutil

    from mambamia_cli.errors import ModelError
    from mambamia_cli.language.spotter import Spotter, SpotterConfig

    folder = tmp_path / "tiny"
    shutil.copytree(closer._models.folder.path, folder)
    Spotter(SpotterConfig(CompressorConfig(grid_rows=4, patches_per_row=4), hidden_width=32, output_width=64)).save_pretrained(folder / "spotter")
    with pytest.raises(ModelError, match="16 patches 432 wide"):
        _ = Models(str(folder), device="cpu", threads=1).spotter


def test_moments_that_are_looked_at_anyway_lie_between_the_peaks_of_delta():
    rule = PeakRule(threshold=1.0, window=8.0, floor=0.0, share=0.0, base=0.3)
    delta = np.full(40, 0.01)
    delta[[12, 24]] = 1.0  # a new stretch at 3 s, another at 6 s
    assert swept(delta, TIMES, rule, end=10.0) == [6, 18, 32]
    assert swept(np.full(40, 0.01), TIMES, rule, end=10.0) == [7, 20, 33]  # one long stretch, cut in pieces of at most PIECE
    assert swept(delta, TIMES, rule, end=10.0, most=2) == [6, 18]  # the first of the highest; the video's beginning is one
    low = np.where(delta == 1.0, np.where(TIMES == 3, 0.5, 1.0), delta)
    assert swept(low, TIMES, rule, end=10.0, most=2) == [6, 32]
    assert swept(delta[:1], TIMES[:1], rule, end=0.25) == [0]
    hours = np.arange(40_000) / 4
    assert len(swept(np.full(40_000, 0.01), hours, rule, end=10_000.0)) == MOST


def test_moments_are_swept_for_a_reader_of_single_views_only(look, closer):
    frames = closer.swept()
    assert look.swept() == [] and frames == sorted(set(frames)) and frames and closer.swept() is frames


def test_a_thing_that_the_first_look_missed_is_found_by_the_sweep(closer, monkeypatch):
    """The first look sees nothing anywhere; the second sees a cat in one swept frame."""
    from types import SimpleNamespace

    from mambamia_cli.pipeline import sightings

    models, index = closer._models, closer._index
    frame = closer.swept()[-1]
    words = models.lexicon

    class Second:
        def swept(self):
            return closer.swept()

        def odds(self, frames, lexicon, measure):
            tokens = torch.stack([words.table[0 if i == frame else 2].expand(1, -1) for i in frames])
            return measure(lexicon, tokens).detach().numpy()

    flat = np.full((1, len(index.times)), -6.0)
    after = sightings._looked_again(flat, np.arange(len(index.times)), index.seconds, SimpleNamespace(match=MatchRule(again=1.0)), words, ["cat"], Second())
    assert after[0].max() == after[0, frame] > 0 > after[0].min()
