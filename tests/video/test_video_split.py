"""Pieces of a video: exactly the frames between two markers, copied where that is exact, the sound beside them."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from fixtures import videos
from fixtures.videos import BLUE, GREEN, RED, YELLOW, read_number

from mambamia_cli.video.container import open_container
from mambamia_cli.video.grab import grab
from mambamia_cli.video.probe import probe
from mambamia_cli.video.split import ending_for, plan_pieces, write_piece

SEGMENTS = ((RED, Fraction(2)), (GREEN, Fraction("2.4")), (BLUE, Fraction("1.6")), (YELLOW, Fraction(2)))
CLOSED = {"x264-params": "scenecut=40:open-gop=0:bframes=2"}
PLAIN = {"x264-params": "scenecut=0:bframes=0"}


def cut(source, starts, folder, end=None):
    """-> (piece, its file) of every piece."""
    ending = ending_for(source)
    info, pieces = plan_pieces(source, [Fraction(t) for t in starts], None if end is None else Fraction(end))
    found = []
    for piece in pieces:
        path = folder / f"{piece.n}{ending}"
        with open(path, "wb+") as file:
            write_piece(info, piece, file, ending)
        found.append((piece, path))
    return found


def pictures(path) -> list[np.ndarray]:
    """Every frame, (H, W, 3)."""
    with open_container(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]


def coded(path, kind) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def lasting(path) -> Fraction:
    """Seconds from the first frame until the last leaves the screen."""
    return probe(path).duration


def picture_lasts(path, fps) -> Fraction:
    """The same by the frames' own times."""
    with open_container(path) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0) if frame.pts is not None]
    return times[-1] - times[0] + 1 / fps


@pytest.mark.parametrize(
    "name, options, copied",
    [
        ("keys.mp4", {"gop": 10, "options": PLAIN}, {1, 2, 3, 4}),  # every marker is at a keyframe
        ("some.mp4", {"gop": 25, "options": PLAIN}, {1, 2, 4}),  # 2 s and 6 s are, 4.4 s is not
        ("some.mkv", {"gop": 50, "options": PLAIN}, {1, 2, 4}),
        ("b-frames.mp4", {"gop": 12, "options": CLOSED}, None),
        ("ntsc.mp4", {"gop": 12, "fps": Fraction(30000, 1001)}, None),
        ("ten.mkv", {"gop": 12, "pix_fmt": "yuv420p10le"}, None),
        ("wide.mp4", {"gop": 12, "sample_aspect_ratio": Fraction(64, 45)}, None),
        ("turned.mp4", {"gop": 12, "rotation": 90}, None),
        ("flipped.mp4", {"gop": 12, "rotation": 90, "hflip": True}, None),
        ("late.mp4", {"gop": 12, "start": Fraction(18, 5)}, None),
        ("stream.ts", {"gop": 12}, None),
        ("film.webm", {"codec": "libvpx-vp9", "gop": 50}, {1, 2, 4}),
        ("old.avi", {"codec": "mpeg4"}, set()),
    ],
)  # fmt: skip
def test_each_piece_has_the_frames_between_its_markers(tmp_path, name, options, copied):
    sound = not name.endswith((".webm", ".avi"))
    truth = videos.write_video(tmp_path / name, SEGMENTS, numbered=True, audio=sound, **options)
    edges = [Fraction(0), *truth.cuts, None]
    found = cut(truth.path, edges[:-1], tmp_path)
    numbers, whole = [], pictures(truth.path)
    for (piece, path), (start, end) in zip(found, pairwise(edges), strict=True):
        assert (piece.start, piece.end) == (start, end)
        own, first = pictures(path), truth.times.index(start)
        numbers.append(len(own))
        for at in (0, len(own) // 2, -1):
            shown = whole[first + at if at >= 0 else first + len(own) - 1]
            distance = np.abs(own[at].astype(int) - shown).mean()
            assert distance == 0 if piece.copied else distance < 3, (piece, at, distance)
        info = probe(path)
        assert (info.width, info.height, info.rotation) == (probe(truth.path).width, probe(truth.path).height, probe(truth.path).rotation)
        assert np.abs(grab(path, [0])[0].astype(int) - grab(truth.path, [start])[0]).mean() < 3  # upright too
    assert numbers == [truth.times.index(b) - truth.times.index(a) for a, b in pairwise([*edges[:-1]])] + [truth.frames - sum(numbers[:-1])]
    assert sum(numbers) == truth.frames
    rounding = len(found) * Fraction(1, 1000)
    assert abs(sum(picture_lasts(path, truth.fps) for _, path in found) - truth.frames / truth.fps) <= rounding
    if not name.endswith("mkv"):  # there the length is that of the longest stream, which a packet of sound may be
        assert abs(sum(lasting(path) for _, path in found) - lasting(truth.path)) <= rounding
    if copied is not None:
        assert {piece.n for piece, _ in found if piece.copied} == copied
        assert all(bool(piece.why) != piece.copied for piece, _ in found)


def test_copied_pieces_hold_the_videos_own_packets_and_the_sound_is_in_one_piece_each(tmp_path):
    truth = videos.write_video(tmp_path / "a.mp4", SEGMENTS, gop=10, options=PLAIN, audio=True, numbered=True)
    found = cut(truth.path, [0, *truth.cuts], tmp_path)
    assert all(piece.copied for piece, _ in found)
    for kind in ("video", "audio"):
        assert [one for _, path in found for one in coded(path, kind)] == coded(truth.path, kind)


def write_beeps(path, options):
    """Numbered frames, and a click in the sound at each cut of SEGMENTS: what is heard must stay with what is seen."""
    truth = videos.write_video(path.with_suffix(".silent.mp4"), SEGMENTS, numbered=True, **options)
    rate, samples = 16000, np.zeros(8 * 16000, np.float32)
    for moment in truth.cuts:
        at = int((moment + Fraction(1, 5)) * rate)
        samples[at : at + 800] = np.sin(np.arange(800) * 0.6)
    with av.open(str(truth.path)) as source, av.open(str(path), "w") as out:
        picture = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream("aac", rate=rate, layout="mono")
        for at in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = picture
                out.mux(packet)
    return truth


def click(path) -> float:
    """When the sound is loud first, in seconds after the first frame."""
    with open_container(path) as container:
        for frame in container.decode(container.streams.audio[0]):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.3)
            if len(loud):
                return float(frame.pts * frame.time_base) + loud[0] / frame.sample_rate - float(probe(path).start_time)
    return float("nan")


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("options, copied", [({"gop": 10, "options": PLAIN}, True), ({"gop": 250, "options": PLAIN}, False)])
def test_sound_stays_with_the_picture(tmp_path, ending, options, copied):
    path = tmp_path / f"beeps{ending}"
    truth = write_beeps(path, options)
    whole = [click(path)]
    found = cut(path, [0, *truth.cuts], tmp_path)
    for piece, file in found[1:]:
        assert piece.copied == copied
        # A click stands 0.2 s after each cut. A player that heeds no priming is late by one packet of it, here as in the whole.
        assert click(file) == pytest.approx(0.2 + whole[0] - 2.2, abs=0.03), piece


def test_a_held_frame_is_held_in_its_piece(tmp_path, vfr):
    found = cut(vfr.path, [0, 3, Fraction("4.0")], tmp_path)
    assert [float(lasting(path)) for _, path in found[:2]] == pytest.approx([3.0, 1.0], abs=0.002)
    assert [read_number(pictures(path)[0]) for _, path in found] == [0, 25, 35]
    with open_container(found[1][1]) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == [Fraction(n, 10) for n in range(10)]


def test_a_marker_between_two_frames_cuts_at_the_next_and_one_without_a_frame_makes_no_piece(tmp_path, numbered):
    _, pieces = plan_pieces(numbered.path, [Fraction(0), Fraction("1.99"), Fraction(2), Fraction("3.97"), Fraction(9)], None)
    assert [(piece.n, piece.start) for piece in pieces] == [(1, 0), (2, 2), ]  # fmt: skip
    assert pieces[-1].end is None


def test_a_range_ends_where_it_is_asked_to(tmp_path, numbered):
    found = cut(numbered.path, [1, 2], tmp_path, end=3)
    assert [len(pictures(path)) for _, path in found] == [25, 25]
    assert [read_number(pictures(path)[0]) for _, path in found] == [25, 50]


def test_subtitles_on_screen_at_a_cut_go_on_in_the_next_piece(tmp_path):
    truth = videos.write_video(tmp_path / "a.mkv", SEGMENTS, numbered=True, gop=10, options=PLAIN)
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:05,000\nlong\n\n2\n00:00:06,500 --> 00:00:07,000\nshort\n")
    with av.open(str(truth.path)) as source, av.open(str(tmp_path / "a.srt")) as words, av.open(str(tmp_path / "b.mkv"), "w") as out:
        targets = [out.add_stream_from_template(source.streams.video[0]), out.add_stream_from_template(words.streams[0])]
        for container, target in ((words, targets[1]), (source, targets[0])):
            for packet in container.demux():
                if packet.size:
                    packet.stream = target
                    out.mux(packet)
    said = []
    for _, path in cut(tmp_path / "b.mkv", [0, *truth.cuts], tmp_path):
        with av.open(str(path)) as container:
            rows = [(p.pts * p.time_base, p.duration * p.time_base, bytes(p)) for p in container.demux(container.streams.subtitles[0]) if p.size]
        said.append([(float(start), float(length), text.decode()) for start, length, text in rows])
    assert said == [[(1.0, 1.0, "long")], [(0.0, 2.4, "long")], [(0.0, 0.6, "long")], [(0.5, 0.5, "short")]]
