"""The second look taken during the first finds what a second pass over the file finds, and spares it."""

from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import av
import numpy as np
import pytest

from mambamia_cli import open_video
from mambamia_cli.pipeline import Models, boundaries, closeup, engine
from mambamia_cli.pipeline.candidates import candidates_of
from mambamia_cli.pipeline.closeup import CloseUp
from mambamia_cli.records import Candidate
from mambamia_cli.scenes import evidence, levels, marking, peaks
from mambamia_cli.scenes.cuts import CutStream
from mambamia_cli.scenes.evidence import EvidenceStream
from mambamia_cli.scenes.refine import SIZE
from mambamia_cli.video import SampleSpec, decode, open_frames, thinning
from mambamia_cli.video.container import PLAIN, Decoder
from mambamia_cli.video.every import Stretch
from mambamia_cli.video.windows import open_windows
from mambamia_cli.vision import backends

FPS, SECONDS, LAG = 25, 64, 96
"""LAG: sampled frames of which delta is not known yet, as with a window of the compressor."""


def mosaic(rng):
    return rng.integers(20, 236, (12, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)  # (96, 128, 3)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A cut or a dissolve every one to four seconds."""
    rng = np.random.default_rng(11)
    path, picture, count = tmp_path_factory.mktemp("film") / "film.mp4", mosaic(rng), 0
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"

        def show(frame):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame.astype(np.uint8), "rgb24")))

        while count < SECONDS * FPS:
            still, following = int(rng.integers(FPS, 4 * FPS)), mosaic(rng)
            mixed = 20 if rng.random() < 0.4 else 0
            for _ in range(still):
                show(picture)
            for j in range(mixed):
                show(picture + (following.astype(float) - picture) * (j + 1) / (mixed + 1))
            picture, count = following, count + still + mixed
        out.mux(stream.encode())
    return path


RULE = peaks.PeakRule(threshold=1.0, window=4.0, floor=0.0, share=0.0, base=0.3)


def looked_at(path, *, lag=LAG, decoder=PLAIN):
    """(times, delta, Evidence, CloseUp) at four frames a second, delta coming `lag` frames late, as `watch` goes about it."""
    known, times, made = EvidenceStream(), [], np.random.default_rng(2).gamma(1.0, 0.3, 4 * (SECONDS + 10))
    with open_frames(path, SampleSpec(fps=Fraction(4), size=(112, 112)), chunk_frames=16, every=SIZE, decoder=decoder) as frames:
        close = CloseUp(frames.info, RULE)
        for chunk in frames:
            known.push(chunk.frames)
            times += [float(t) for t in chunk.times]
            close.add(chunk.every)
            ready = max(0, len(times) - lag)
            if ready:
                close.foresee(np.array(times[:ready]), made[:ready], known.so_far())
        close.add(frames.rest, last=frames.ended)
    return np.array(times), made[: len(times)], known.finish(), close


def refined(path, times, delta, known, cuts, seen, monkeypatch):
    """The candidates, and the windows that the file was read for."""
    read, look = [], boundaries._look

    def note(path, windows, stream):
        read.extend(windows.values())
        return look(path, windows, stream)

    contrast = peaks.scores(delta, times, RULE)
    score = evidence.combine(contrast, RULE.threshold, known)
    at = marking.candidates_of(score, times, marking.LOWEST)
    with monkeypatch.context() as patched:
        patched.setattr(boundaries, "_look", note)
        return boundaries.refine(path, times, score, at, known, cuts=cuts, seen=seen), read


def test_what_was_foreseen_is_what_a_second_pass_finds(film, monkeypatch):
    *facts, close = looked_at(film)
    seen, read = refined(film, *facts, close.cuts, close, monkeypatch)
    again, read_again = refined(film, *facts, close.cuts, None, monkeypatch)
    assert seen == again and {c.transition for c in seen} >= {"cut", "dissolve"}
    assert len(seen) > 15 and read == [] and len(read_again) >= len(seen)


def found_in(path, **options):
    """(candidates, CloseUp) of a close look"""
    times, delta, known, close = looked_at(path, **options)
    index = SimpleNamespace(seconds=times, delta=delta, evidence=known, closeup=close, range=(0.0, SECONDS + 5.0),
                            signatures=np.zeros((len(times), levels.WIDTH), np.float16))  # fmt: skip
    return candidates_of(index, path, RULE, 1.0, refine=True)[0], close


def test_what_is_left_undecoded_moves_no_cut(film):
    whole, thin = found_in(film)[0], found_in(film, decoder=Decoder(1, whole=False))[0]
    assert [c.transition for c in thin] == [c.transition for c in whole]
    for one, other in zip(thin, whole, strict=True):
        assert abs(one.time - other.time) <= (0 if other.transition == "cut" else 0.15)


@pytest.mark.parametrize("seen", [True, False], ids=["seen frame by frame", "told by the sampled frames"])
def test_a_cut_in_a_gap_of_what_was_decoded_is_looked_up_in_the_file(tmp_path, monkeypatch, seen):
    """Were large packets not heeded, of these cuts two of three would fall among frames that are not decoded."""
    monkeypatch.setattr(thinning, "LARGE", 1e9)
    if not seen:
        monkeypatch.setattr(CutStream, "_consider", lambda self, k, moves: None)
    rng, path, cuts = np.random.default_rng(4), tmp_path / "a.mp4", [60 + 31 * k for k in range(14)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "18", "x264-params": "keyint=600:scenecut=0:bframes=3:b-adapt=0:b-pyramid=normal"})
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for a, e in pairwise([0, *cuts, cuts[-1] + 40]):
            picture = mosaic(rng)
            for _ in range(a, e):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode())
    found, close = found_in(path, decoder=Decoder(1, whole=False))
    assert [c.time for c in found if c.transition == "cut"] == pytest.approx([k / FPS for k in cuts])
    assert sum(any(before < cut / FPS < after for after, before in close.jumps.items()) for cut in cuts) > 5


def test_pictures_that_had_to_go_are_read_from_the_file(film, monkeypatch):
    monkeypatch.setattr(closeup, "MEMORY", 12 * FPS * SIZE[0] * SIZE[1] * 3)  # twelve seconds, where delta comes 24 late
    *facts, close = looked_at(film)
    seen, read = refined(film, *facts, close.cuts, close, monkeypatch)
    again, read_again = refined(film, *facts, close.cuts, None, monkeypatch)
    assert seen == again and 0 < len(read) < len(read_again)
    assert sum(s.frames.nbytes for s in close._held) <= closeup.MEMORY


def test_pictures_are_let_go_once_their_candidates_are_settled(film):
    *_, close = looked_at(film, lag=16)
    held = sum(len(s.times) for s in close._held)
    assert held < 25 * FPS  # of 64 seconds
    assert close._held[-1].times[-1] > SECONDS - 1


def test_every_frame_comes_in_small_whatever_is_sampled(film):
    with open_frames(film, SampleSpec(fps=Fraction(4), size=(48, 64)), chunk_frames=8, every=(45, 80)) as frames:
        parts = [chunk.every for chunk in frames]
        parts.append(frames.rest)
    whole = next(open_windows(film, [(0, SECONDS + 10)], (45, 80)))
    assert tuple(t for part in parts for t in part.times) == whole.times and len(whole.times) >= SECONDS * FPS
    np.testing.assert_array_equal(np.concatenate([part.frames for part in parts]), whole.frames)
    assert frames.ended


def facts(candidate):
    """What of a candidate does not hang on patches, which a close look has of fewer frames."""
    return candidate.transition, [t and pytest.approx(t, abs=2e-3) for t in (candidate.time, candidate.transition_start, candidate.transition_end)]


def test_a_part_of_a_video_is_refined_alike(tiny_model, film, monkeypatch):
    """Markers near the ends of a range look at frames outside of it. A close look leaves block edges as they are, which moves what
    is drawn through pictures by a hair. Both looks with all bits and all frames: a close one does with fewer."""
    monkeypatch.setattr(backends, "int8_is_exact", lambda: False)
    monkeypatch.setattr(engine, "multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(decode, "thinning_pays", lambda *_: False)
    models = Models(str(tiny_model), device="cpu", threads=1)
    options = {"models": models, "start": 20.3, "end": 47.9}
    close = open_video(film, **options).scenes(threshold=0.5)
    monkeypatch.setattr("mambamia_cli.pipeline.video.CLOSE_RATE", 1000)
    far = open_video(film, **options).scenes(threshold=0.5).candidates
    cuts = [c.time for c in close.candidates if c.transition == "cut"]
    seen = [facts(c) for c in close.candidates]
    # Every frame alone tells a cut from what the sampled ones take for a quick wipe.
    assert len(far) > 5 and all(facts(c) in seen or any(abs(c.time - t) < 0.05 for t in cuts) for c in far)
    assert sum(facts(c) in seen for c in far) > len(far) / 2


@pytest.mark.parametrize("chunk", [7, 1000])
def test_a_video_s_own_fades_open_no_scene(chunk):
    """From black, from a shot to another over black, and to black: the middle one alone is a change of scene."""
    rng = np.random.default_rng(2)
    light = np.interp(np.arange(400), [5, 30, 180, 190, 210, 220, 360, 390], [0, 1, 1, 0, 0, 1, 1, 0])
    shots = [rng.integers(20, 236, (9, 16, 3)).repeat(5, 0).repeat(5, 1) for _ in range(2)]
    frames = np.stack([shots[i >= 200] * light[i] for i in range(400)]).astype(np.uint8)
    times = tuple(Fraction(i, FPS) for i in range(400))
    look = CloseUp(SimpleNamespace(time_base=Fraction(1, 12800)), RULE)
    for a in range(0, 400, chunk):
        look.add(Stretch(frames[a : a + chunk], times[a : a + chunk]))
    look.add(None, last=True)
    fades = [Candidate((a + b) / 2, a, 2.0, "fade-black", a, b) for a, b in ((0.1, 1.2), (7.2, 8.8), (14.4, 15.6))]
    assert [look.is_of_blank(fade) for fade in fades] == [True, False, True]
    assert not look.is_of_blank(Candidate(15.5, 15.5, 2.0, "cut"))


def test_small_pictures_are_kept_without_black_bars():
    frames = np.random.default_rng(0).integers(60, 250, (50, *SIZE, 3), np.uint8)
    frames[:, :6] = frames[:, -6:] = 4
    look = CloseUp(SimpleNamespace(time_base=Fraction(1, 12800)), RULE)
    look.add(Stretch(frames, tuple(Fraction(i, FPS) for i in range(50))), last=True)
    assert look._between(0.0, 1.0)[0].min() >= 60


@pytest.mark.parametrize("own", [True, False])
def test_what_is_a_fade_of_the_video_s_own_is_no_candidate(film, own, monkeypatch):
    times, delta, known, close = looked_at(film)
    index = SimpleNamespace(seconds=times, delta=delta, evidence=known, closeup=close, range=(0.0, SECONDS + 5.0),
                            signatures=np.zeros((len(times), levels.WIDTH), np.float16))  # fmt: skip
    monkeypatch.setattr(CloseUp, "is_of_blank", lambda self, one: own and one.time > 20)
    found, _ = candidates_of(index, film, RULE, 1.0, refine=True)
    assert len(found) > 5 and (max(one.time for one in found) <= 20) == own
