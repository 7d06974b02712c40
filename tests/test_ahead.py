"""Decoding that begins before there is anything to look with."""

import os
import threading
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from mambamia_cli import open_video
from mambamia_cli.errors import InputError, UsageError
from mambamia_cli.pipeline import Models, ahead, index
from mambamia_cli.pipeline.ahead import Ahead, Reading, reading
from mambamia_cli.scenes.refine import SIZE
from mambamia_cli.video import SampleSpec
from mambamia_cli.video.container import PLAIN, Decoder


def wanted(path, **changes):
    return Reading(**{"path": path, "spec": SampleSpec(fps=Fraction(4), size=(32, 48)), "chunk": 8, "every": None, "decoder": PLAIN} | changes)


def decoding():
    return [thread for thread in threading.enumerate() if thread.name in ("mambamia-decode", "mambamia-scale")]


def test_what_was_read_ahead_is_what_is_read_anew(three_cuts):
    with wanted(three_cuts.path, every=SIZE).open() as frames:
        anew = list(frames)
    with Ahead(wanted(three_cuts.path, every=SIZE)) as begun, begun.take(wanted(three_cuts.path, every=SIZE)) as frames:
        early = list(frames)
        assert begun.take(wanted(three_cuts.path, every=SIZE)) is None  # there is but one
    assert [c.times for c in early] == [c.times for c in anew]
    for one, other in zip(early, anew, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.every.frames, other.every.frames)


@pytest.mark.parametrize("change", [{"chunk": 4}, {"every": SIZE}, {"decoder": Decoder(1, smooth=False)}, {"spec": SampleSpec(fps=Fraction(2), size=(32, 48))}], ids=str)
def test_another_reading_is_not_taken_for_the_wanted_one(three_cuts, change):
    with Ahead(wanted(three_cuts.path)) as begun:
        assert begun.take(wanted(three_cuts.path, **change)) is None
        assert decoding()
    assert not decoding()


def test_it_decodes_before_anybody_asks(three_cuts):
    """All 32 frames go into the queue: the decoder ends by itself."""
    with Ahead(wanted(three_cuts.path)) as begun:
        for thread in decoding():
            thread.join(timeout=60)
        stream = begun.take(wanted(three_cuts.path))
        assert stream.read and stream.stats.sampled == 32
        stream.close()


def test_an_error_of_the_planning_ends_the_decoding(three_cuts, tiny_model, monkeypatch):
    video = open_video(three_cuts.path, models=Models(str(tiny_model), device="cpu", threads=1))
    monkeypatch.setattr(video, "prepare", lambda **_: (_ for _ in ()).throw(UsageError("no", "no")))
    for look in (video.scenes, lambda: video.ask("what is it?"), lambda: video.find("dog"), video.summarize):
        with pytest.raises(UsageError):
            look()
        assert not decoding()


def test_a_damaged_file_is_refused_as_before(tmp_path, tiny_model, three_cuts):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(three_cuts.path.read_bytes()[:400])
    with pytest.raises(InputError):
        Ahead(wanted(bad))


@pytest.mark.parametrize("closely", [False, True], ids=["ask", "scenes"])
def test_a_look_goes_on_with_what_was_read_ahead(three_cuts, tiny_model, monkeypatch, closely):
    """The guess made without torch is right: nothing is decoded twice."""
    opened = []
    monkeypatch.setattr(Reading, "open", lambda self, open=Reading.open: opened.append(self) or open(self))
    video = open_video(three_cuts.path, models=Models(str(tiny_model), device="cpu", threads=2))
    record = video.scenes() if closely else video.ask("what is it?", max_tokens=2)
    assert len(opened) == 1 and (opened[0].every == SIZE) == closely and record.sampling.frames == 32
    (video.scenes if closely else lambda: video.ask("where?", max_tokens=2))()
    assert len(opened) == 1  # what is known is not looked at again


def test_a_guess_that_proves_wrong_costs_time_alone(three_cuts, tiny_model, monkeypatch):
    right = open_video(three_cuts.path, models=Models(str(tiny_model), device="cpu", threads=2)).scenes()
    monkeypatch.setattr(index, "cores", lambda: 8)
    models = Models(str(tiny_model), device="cpu")
    monkeypatch.setattr("mambamia_cli.pipeline.video.cores", lambda: 2)
    other = open_video(three_cuts.path, models=models).scenes()
    assert [s.start for s in other.scenes] == [s.start for s in right.scenes] and not decoding()


def test_a_close_look_holds_the_decoder_to_its_part(three_cuts, monkeypatch):
    close = reading(three_cuts.path, SampleSpec(), 32, closely=True, threads=8)
    assert close.decoder == Decoder(8 // ahead.SHARERS, smooth=False, whole=False) and close.every == SIZE
    assert reading(three_cuts.path, SampleSpec(), 32, closely=True, threads=None).decoder == PLAIN
    monkeypatch.setattr(ahead, "HEAVY", 0.0)  # much to decode: no part, but all
    assert reading(three_cuts.path, SampleSpec(), 32, closely=True, threads=8).decoder == Decoder(8, smooth=False, whole=False)
    assert reading("a.mp4", SampleSpec(), 32, closely=False, threads=8) == Reading("a.mp4", SampleSpec(), 32, None, PLAIN)


@pytest.mark.parametrize(
    "high, wide, fps, megabits, heavy",
    [(720, 1280, 25, 0.7, False), (720, 1280, 25, 2.0, True), (360, 640, 24, 0.5, False), (1080, 1920, 30, 0.7, True), (720, 1280, None, None, False)],
)
def test_how_much_there_is_to_decode(tmp_path, high, wide, fps, megabits, heavy):
    path = tmp_path / "video"
    path.write_bytes(b"")
    os.truncate(path, round((megabits or 9) * 1e6 / 8 * 10))
    info = SimpleNamespace(path=path, width=wide, height=high, fps=fps, duration=None if megabits is None else Fraction(10))
    assert (ahead.decoding_work(info) >= ahead.HEAVY) == heavy
