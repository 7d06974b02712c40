"""Frames that are left undecoded where the ones beside them tell: times are whole, what is sampled is exact, a cut stands where it is."""

from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import av
import numpy as np
import pytest
from fixtures import videos

from mambamia_cli.scenes.refine import SIZE, find_cut
from mambamia_cli.video.container import Decoder
from mambamia_cli.video.decode import open_frames
from mambamia_cli.video.every import Every
from mambamia_cli.video.sample import Grid, SampleSpec
from mambamia_cli.video.thinning import LONGEST, Thinning, pays

PATTERN = "keyint=250:scenecut=0:bframes=3:b-adapt=0:b-pyramid=normal"  # P b B b P, of which b are left out
FPS = 25


FOUR = SampleSpec(fps=Fraction(4), size=(48, 64))


def read(path, *, whole, threads=1, spec=FOUR):
    """-> FrameChunks, and (pictures (m, H, W, 3), times, jumps) of all frames, and the stream's stats"""
    with open_frames(path, spec, chunk_frames=8, every=SIZE, decoder=Decoder(threads, whole=whole)) as stream:
        chunks = list(stream)
    parts = [*(chunk.every for chunk in chunks), stream.rest]
    every = np.concatenate([p.frames for p in parts]), sum((p.times for p in parts), ()), sum((p.jumps for p in parts), ())
    return chunks, every, stream.stats


def soft(seed, high=96, wide=640):
    """A soft picture, that moves without leaving much behind."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (high // 16 + 2, wide // 16 + 2, 3)).astype(float)
    down, across = np.arange(high) / 16, np.arange(wide) / 16
    y, x = down.astype(int), across.astype(int)
    u, v = (down - y)[:, None, None], (across - x)[None, :, None]
    return (
        coarse[y][:, x] * (1 - u) * (1 - v) + coarse[y + 1][:, x] * u * (1 - v) + coarse[y][:, x + 1] * (1 - u) * v + coarse[y + 1][:, x + 1] * u * v
    )  # (H, W, 3)


def write(path, pictures, params=PATTERN, codec="libx264", **options):
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=FPS, options={f"{codec[3:]}-params": params, **options})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture).astype(np.uint8), "rgb24")))
        out.mux(stream.encode())
    return path


def drift(seed, count, pace=1):
    ground = soft(seed)
    return [ground[:, pace * k : pace * k + 128] for k in range(count)]


KINDS = {
    "h264": {"options": {"x264-params": PATTERN}},
    "open groups": {"options": {"x264-params": "open-gop=1:keyint=20:min-keyint=20:bframes=3:b-pyramid=normal"}},
    "intra refresh": {"options": {"x264-params": "intra-refresh=1:keyint=20"}},
    "short groups": {"gop": 10},
    "one group a frame": {"gop": 1},
    "hevc, open groups": {"codec": "libx265", "options": {"x265-params": "open-gop=1:keyint=20:min-keyint=20:bframes=4:log-level=none"}},
    "vp9": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}, "gop": 20},
    "av1": {"codec": "libsvtav1", "options": {"preset": "12", "svtav1-params": "keyint=20"}},
    "mpeg4": {"codec": "mpeg4", "options": {"bf": "2"}},  # whose packets are not trusted (sparse.py)
    "late, variable": {"pts": [i * 40 + (i // 7) * 90 for i in range(120)], "start": 5, "gop": 15, "options": {"x264-params": "bframes=3"}},
}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sampled_is_exact_and_no_time_is_missing(kind, suffix, tmp_path):
    if suffix == "ts" and KINDS[kind].get("codec") in ("libvpx-vp9", "libsvtav1"):
        suffix = "mkv"  # MPEG-TS takes neither
    path = videos.write_video(tmp_path / f"a.{suffix}", ((videos.RED, 2), (videos.BLUE, Fraction("2.8"))), textured=True, **KINDS[kind]).path
    spared = 0
    for spec in (
        FOUR,
        SampleSpec(fps=Fraction(7, 2), size=(48, 64), start=Fraction("1.13"), end=Fraction("3.9")),
        SampleSpec(fps=Fraction(4), size=(48, 64), start=Fraction("4.2")),
        SampleSpec(fps=None, max_frames=9, size=(48, 64)),
        SampleSpec(fps=None, size=(48, 64)),
    ):
        for threads in (1, 2):
            (chunks, thin, stats), (others, whole, full) = read(path, whole=False, threads=threads, spec=spec), read(path, whole=True, spec=spec)
            assert [c.times for c in chunks] == [c.times for c in others]
            for one, other in zip(chunks, others, strict=True):
                assert np.array_equal(one.frames, other.frames)
            assert all(a < b for a, b in pairwise(thin[1]))
            told = [t for t in thin[1] if t <= whole[1][-1]]  # a range may end a frame later
            assert told == list(whole[1][-len(told) :]) and len(told) >= len(whole[1]) - 3  # what comes before the first decoded frame goes untold
            spared += full.decoded - stats.decoded
            assert (stats.sampled, stats.max_gap, stats.duration, stats.corrupt_packets) == (full.sampled, full.max_gap, full.duration, full.corrupt_packets)
    assert (spared > 20) == (suffix != "ts" and kind not in ("one group a frame", "vp9", "av1", "mpeg4")), spared


@pytest.mark.parametrize("codec, params", [("libx264", PATTERN), ("libx264", "bframes=2:b-adapt=0:b-pyramid=none"), ("libx265", "bframes=3:b-adapt=0:log-level=none")])
def test_where_a_picture_moves_smoothly_a_quarter_is_left_out_and_hardly_missed(tmp_path, codec, params):
    path = write(tmp_path / "a.mp4", drift(1, 400), params, codec)
    (_, (thin, times, jumps), stats), (_, (whole, all_times, _), full) = read(path, whole=False), read(path, whole=True)
    assert times == all_times and len(times) == full.decoded == 400 and not jumps
    assert stats.decoded < 300
    apart = np.abs(thin.astype(int) - whole).mean((1, 2, 3))  # (m,)
    assert (apart > 0).sum() == 400 - stats.decoded and apart.max() < 1.5


@pytest.mark.parametrize("cut", range(81, 90))
def test_a_cut_is_told_to_the_frame(tmp_path, cut):
    """Wherever it falls among the B-frames: those before the first anchor of the new picture are all decoded."""
    path = write(tmp_path / "a.mp4", drift(1, cut) + drift(2, 150 - cut))
    (_, (thin, times, jumps), stats), (_, (whole, *_), _) = read(path, whole=False), read(path, whole=True)
    assert stats.decoded < 130 and not jumps
    near = slice(cut - 4, cut + 5)
    assert np.abs(thin[near].astype(int) - whole[near]).mean((1, 2, 3)).max() < 1.5
    turn = find_cut(thin[cut - 12 : cut + 12], [float(t) for t in times[cut - 12 : cut + 12]], (cut - 5) / FPS, (cut + 5) / FPS)
    assert turn.time == pytest.approx(cut / FPS) and turn.kind == "cut"


@pytest.mark.parametrize("pace", [0, 12])
def test_what_moves_unevenly_is_decoded_whole(tmp_path, pace):
    """A camera that stands, or shakes."""
    ground, rng = soft(3), np.random.default_rng(0)
    places = 200 + np.cumsum(rng.integers(-pace, pace + 1, 300))
    path = write(tmp_path / "a.mp4", [ground[:, p : p + 128] for p in places.clip(0, 500)])
    stats = read(path, whole=False)[2]
    assert stats.decoded < 220 if pace == 0 else stats.decoded > 295


def test_a_change_in_a_gap_is_a_jump_and_no_mixture(tmp_path):
    """Too small to make a packet large. The frames before it hold the last picture, and the jump tells between which frames it is."""
    page = np.full((96, 128, 3), 200.0)
    other = page.copy()
    other[40:50, 20:60] -= 30
    found = []
    for cut in range(100, 108):
        path = write(tmp_path / f"{cut}.mp4", [page] * cut + [other] * (150 - cut), PATTERN + ":crf=10")
        _, (thin, times, jumps), _ = read(path, whole=False)
        whole = read(path, whole=True)[1][0]
        steps = np.flatnonzero(np.abs(np.diff(thin.astype(int), axis=0)).mean((1, 2, 3)) > 0.3) + 1
        assert len(steps) == 1  # at once, in one frame
        after = {after: before for before, after in jumps}
        if times[steps[0]] in after:
            assert after[times[steps[0]]] < Fraction(cut, FPS) <= times[steps[0]]
            found.append(cut)
        else:
            assert steps[0] == cut and np.array_equal(thin[cut], whole[cut])
    assert found  # some fall in a gap


def frame_at(picture):
    return av.VideoFrame.from_ndarray(picture, "rgb24")


def every(size=(4, 6)):
    return Every(size, SimpleNamespace(orientation=(False, False, False)))


def test_what_is_left_out_is_a_mixture_by_its_place():
    one, other = (np.full((4, 6, 3), value, np.uint8) for value in (100, 160))
    for left_out, values in ((1, [130]), (2, [120, 140]), (3, [115, 130, 145])):
        frames = every()
        for k in range(3):  # the picture moves as fast before
            frames.add(frame_at(np.full((4, 6, 3), 40 + 20 * k, np.uint8)), Fraction(k))
        frames.add(frame_at(one), Fraction(3))
        times = [3 + Fraction(k, left_out + 1) for k in range(1, left_out + 1)]
        frames.add(frame_at(other), Fraction(4), times)
        stretch = frames.cut()
        assert stretch.times == (0, 1, 2, 3, *times, 4) and not stretch.jumps
        assert stretch.frames[4:-1, 0, 0, 0].tolist() == values
        assert frames.cut().times == ()


def test_before_the_first_frame_nothing_is_told():
    frames = every()
    frames.add(frame_at(np.zeros((4, 6, 3), np.uint8)), Fraction(2), [Fraction(1)])
    assert frames.cut().times == (2,)


def test_it_goes_on_smoothly_where_a_frame_is_between_its_neighbours():
    for values, smooth in (([10, 20, 30], True), ([10, 20, 10], False), ([10, 20], False), ([10, 10, 10], True), ([10, 12, 16], True)):
        frames = every()
        for k, value in enumerate(values):
            frames.add(frame_at(np.full((4, 6, 3), value, np.uint8)), Fraction(k, FPS))
        assert frames.is_smooth() is smooth, values
    frames = every()
    for k in range(3):
        frames.add(frame_at(np.full((4, 6, 3), 10, np.uint8)), Fraction(k))  # seconds apart: says nothing
    assert not frames.is_smooth()


INFO = SimpleNamespace(clock="pts", codec="h264", container="mov,mp4", fps=Fraction(FPS), time_base=Fraction(1, FPS), start_time=Fraction(0), width=64, height=48)


class Packet(SimpleNamespace):
    def __init__(self, pts, **changes):
        super().__init__(**{"pts": pts, "size": 100, "is_keyframe": False, "is_corrupt": False, "is_discard": False} | changes)


def chosen(packets, smooth=True, step=Fraction(100)):
    """What the decoder is told of each packet, "" where nothing is said of it (all that came before holds)."""
    thinning, decoder, told = Thinning(INFO, Grid(Fraction(0), None, step, INFO.time_base), lambda: smooth), SimpleNamespace(skip_frame="DEFAULT"), []
    for packet in thinning.choose(iter([*packets, None]), decoder):
        if packet is not None:
            told.append((packet.pts, decoder.skip_frame == "NONREF"))
    assert decoder.skip_frame == "DEFAULT"
    return told


def groups(count, size=4):
    """Anchors, each followed in order of decoding by the frames that are shown before it."""
    return [Packet(0, is_keyframe=True)] + [Packet(size * g - back) for g in range(1, count) for back in (0, *range(size - 1, 0, -1))]


def skipped(told):
    return [pts for pts, may_skip in told if may_skip]


def test_only_what_stands_between_anchors_may_be_skipped():
    told = chosen(groups(30))
    assert [pts for pts, _ in told] == [p.pts for p in groups(30)]  # in the order they came in
    assert skipped(told) and not any(pts % 4 == 0 for pts in skipped(told))
    assert not skipped(chosen(groups(30), smooth=False))
    assert not skipped(chosen([Packet(k) for k in range(60)]))  # no B-frames
    assert min(skipped(told)) > 4 * 6  # before, nothing is known of what is usual


def test_sampled_frames_are_decoded():
    step = Fraction(7, FPS)
    taken, every = set(skipped(chosen(groups(40), step=step))), set(skipped(chosen(groups(40))))
    assert every - taken == {k for k in range(0, 160, 7) if k in every} and every - taken


@pytest.mark.parametrize("change", [{"size": 2000}, {"is_keyframe": True, "size": 2000}], ids=str)
def test_before_a_large_anchor_all_are_decoded(change):
    packets = groups(30)
    at = next(k for k, p in enumerate(packets) if p.pts == 80)
    packets[at] = Packet(80, **change)
    assert set(skipped(chosen(groups(30)))) - set(skipped(chosen(packets))) == {77, 78, 79}


@pytest.mark.parametrize(
    "wrong",
    [Packet(None), Packet(81, is_corrupt=True), Packet(79), Packet(20), Packet(75)],
    ids=["no time", "damaged", "a time twice", "out of order", "before the last anchor"],
)
def test_after_anything_unusual_nothing_is_left_out(wrong):
    packets = groups(40)
    at = next(k for k, p in enumerate(packets) if p.pts == 80) + 2
    told = chosen([*packets[:at], wrong, *packets[at:]])
    assert len(told) == len(packets) + 1 and [pts for pts, _ in told[:at]] == [p.pts for p in packets[:at]]
    assert max(skipped(told)) < 80


def test_an_endless_group_is_given_up():
    packets = [*groups(20), Packet(10_000), *(Packet(100 + k) for k in range(10 * LONGEST))]
    told = chosen(packets)
    assert len(told) == len(packets) and max(skipped(told)) < 80


def test_a_second_attempt_begins_anew():
    """A seek that landed too late is made again from farther back."""
    thinning, decoder = Thinning(INFO, Grid(Fraction(0), None, Fraction(1), INFO.time_base), lambda: True), SimpleNamespace(skip_frame="DEFAULT")
    tries = [[(p.pts, decoder.skip_frame) for p in thinning.choose(iter(groups(30)), decoder)] for _ in range(2)]
    assert tries[0] == tries[1] and thinning.left_out(Fraction(2)) == [Fraction(k, FPS) for k in range(2 * FPS)]
    assert thinning.left_out(Fraction(51, FPS)) == [] and thinning.left_out(Fraction(53, FPS)) == [Fraction(52, FPS)]


def test_a_frame_at_an_unknown_time_ends_it():
    """Where a file's times fall back, they are counted on from there, and packets tell nothing more."""
    thinning, decoder, packets = Thinning(INFO, Grid(Fraction(0), None, Fraction(100), INFO.time_base), lambda: True), SimpleNamespace(skip_frame="DEFAULT"), groups(60)
    told = []
    for k, packet in enumerate(thinning.choose(iter(packets), decoder)):
        told.append((packet.pts, decoder.skip_frame))
        if k == 100:
            assert thinning.left_out(Fraction(201, 100)) == [] == thinning.left_out(Fraction(4))
    assert [pts for pts, _ in told] == [p.pts for p in packets] and max(pts for pts, skip in told if skip == "NONREF") <= 104


@pytest.mark.parametrize("change", [{"clock": "dts"}, {"codec": "mpeg2video"}, {"container": "mpegts"}, {"fps": None}, {"fps": Fraction(7)}], ids=str)
def test_where_it_does_not_pay(change):
    assert pays(INFO, Fraction(1, 4)) and not pays(INFO, None)
    assert not pays(SimpleNamespace(**vars(INFO) | change), Fraction(1, 4))


def test_a_damaged_file_comes_out_like_a_whole_reading(tmp_path):
    path = write(tmp_path / "a.mkv", drift(1, 200))
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) - 2000, len(data) // 7):
        data[at : at + 60] = bytes(60)
    path.write_bytes(data)
    (chunks, (_, times, _), _), (others, (_, all_times, _), _) = read(path, whole=False), read(path, whole=True)
    assert all(a < b for a, b in pairwise(times)) and len(chunks) == len(others)
    assert abs(len(times) - len(all_times)) < 20 and times[-1] == all_times[-1]
