"""The streaming decoder against videos whose every frame and time is known."""

import itertools
import shutil
from fractions import Fraction

import numpy as np
import pytest
from fixtures import videos

from mambamia_cli.errors import InputError, UsageError
from mambamia_cli.video.decode import open_frames
from mambamia_cli.video.sample import SampleSpec

EVERY = SampleSpec(fps=None)


def read(path, spec=EVERY, **options):
    """(frames (m, H, W, 3), times, stats, info) of a whole stream, with what every chunk promises checked."""
    frames, times = [], []
    with open_frames(path, spec, **options) as stream:
        for chunk in stream:
            assert chunk.start == len(times)
            assert chunk.frames.dtype == np.uint8 and chunk.frames.flags.c_contiguous
            assert len(chunk.frames) == len(chunk.times) > 0
            frames.append(chunk.frames)
            times.extend(chunk.times)
    assert stream.stats.sampled == len(times)
    assert all(a < b for a, b in itertools.pairwise(times))
    return np.concatenate(frames), tuple(times), stream.stats, stream.info


def numbers(frames):
    return [videos.read_number(frame) for frame in frames]


def test_every_frame_comes_once_in_order_with_its_own_time(numbered):
    frames, times, stats, info = read(numbered.path)
    assert numbers(frames) == list(range(100))
    assert times == numbered.times
    assert stats.decoded == 100 and stats.corrupt_packets == 0 and not stats.capped
    assert stats.duration == info.duration == 4 and not stats.truncated
    assert stats.effective_fps == 25 and stats.max_gap == pytest.approx(0.04)


def test_colours_are_right(three_cuts):
    frames, times, _, _ = read(three_cuts.path)
    for frame, color in zip(frames, three_cuts.colors, strict=True):
        assert np.abs(np.subtract(videos.lower_color(frame), color)).max() <= 12  # the grating and the coding
    assert len(times) == 200


@pytest.mark.parametrize("fps, matrix, color_range", [("25", "ITU601", "MPEG")])
def test_flat_colours_survive_to_within_rounding(make_video, fps, matrix, color_range):
    truth = make_video(segments=((videos.RED, 1), (videos.GREEN, 1)), options={"crf": "4"})
    frames, _, _, _ = read(truth.path)
    assert np.abs(np.subtract(videos.lower_color(frames[3]), videos.RED)).max() <= 3
    assert np.abs(np.subtract(videos.lower_color(frames[40]), videos.GREEN)).max() <= 3


@pytest.mark.parametrize("chunk_frames, queue_chunks", [(1, 1), (7, 1), (32, 3), (500, 2)])
@pytest.mark.parametrize("spec", [SampleSpec(fps=3, size=(24, 32)), SampleSpec(fps=None, start=Fraction(1, 3))])
def test_chunk_size_changes_nothing(numbered, spec, chunk_frames, queue_chunks):
    base, base_times, _, _ = read(numbered.path, spec)
    frames, times, _, _ = read(numbered.path, spec, chunk_frames=chunk_frames, queue_chunks=queue_chunks)
    assert times == base_times and np.array_equal(frames, base)


def on_screen(times, tick):
    return max(i for i, t in enumerate(times) if t <= tick)


@pytest.mark.parametrize("fps", [Fraction(1), Fraction(4), Fraction(7), Fraction(30000, 1001), Fraction(60)])
def test_each_tick_gets_the_frame_on_screen(numbered, fps):
    expected = sorted({on_screen(numbered.times, i / fps) for i in range(int(4 * fps) + 1) if i / fps < 4})
    frames, times, _, _ = read(numbered.path, SampleSpec(fps=fps))
    assert numbers(frames) == expected
    assert times == tuple(numbered.times[i] for i in expected)


def test_range_takes_what_is_on_screen_in_it(numbered):
    spec = SampleSpec(fps=None, start=Fraction("1.5"), end=Fraction("1.7"))
    frames, times, stats, _ = read(numbered.path, spec)
    assert numbers(frames) == [37, 38, 39, 40, 41, 42]
    assert times[0] == Fraction("1.5")  # frame 37 is on screen since 1.48
    assert times[1:] == numbered.times[38:43]
    assert stats.decoded < 100  # it did not read the whole file


@pytest.mark.parametrize("start", ["0", "0.02", "0.48", "1", "2.99", "3.96", "3.99"])
def test_a_seek_gives_the_frames_a_whole_read_gives(numbered, start):
    start = Fraction(start)
    spec = SampleSpec(fps=None, start=start)
    frames, times, _, _ = read(numbered.path, spec)
    first = on_screen(numbered.times, start)
    assert numbers(frames) == list(range(first, 100))
    assert times == (max(start, numbered.times[first]), *numbered.times[first + 1 :])


def test_a_start_after_the_end_is_a_usage_error(numbered):
    with pytest.raises(UsageError, match="ends at 4 s"):
        open_frames(numbered.path, SampleSpec(start=4))


def test_max_frames_is_spread_evenly_and_said(numbered):
    frames, times, stats, _ = read(numbered.path, SampleSpec(fps=None, max_frames=8))
    assert numbers(frames) == [on_screen(numbered.times, Fraction(i, 2)) for i in range(8)]
    assert stats.capped and stats.effective_fps == 2.0 and stats.max_gap == pytest.approx(0.52)
    _, times, stats, _ = read(numbered.path, SampleSpec(fps=10, max_frames=8, start=2))
    assert len(times) == 8 and stats.capped and times[0] == 2
    _, times, stats, _ = read(numbered.path, SampleSpec(fps=1, max_frames=8))
    assert len(times) == 4 and not stats.capped
    _, times, stats, _ = read(numbered.path, SampleSpec(fps=None, max_frames=100))
    assert times == numbered.times and not stats.capped


def test_variable_frame_rate(vfr):
    frames, times, _, info = read(vfr.path)
    assert times == vfr.times and numbers(frames) == list(range(45)) and info.vfr
    frames, times, stats, _ = read(vfr.path, SampleSpec(fps=2))
    # the still from 0.96 s to 3 s is on screen for ticks 1 to 2.5 and is taken once
    assert numbers(frames) == [0, 12, 24, 25, 30, 35, 40]
    assert times == tuple(vfr.times[i] for i in (0, 12, 24, 25, 30, 35, 40))
    assert stats.max_gap == pytest.approx(3 - 0.96)


@pytest.mark.parametrize("rate", ["30000/1001", "24000/1001"])
@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_ntsc_rates_are_exact(make_video, rate, suffix):
    truth = make_video(f"ntsc.{suffix}", ((videos.RED, 3),), fps=rate, numbered=True)
    frames, times, _, info = read(truth.path)
    assert numbers(frames) == list(range(truth.frames))
    assert times == tuple(i / Fraction(rate) for i in range(truth.frames)) or suffix == "ts"
    assert max(abs(t - i / Fraction(rate)) for i, t in enumerate(times)) <= Fraction(1, 90000)
    assert info.fps == Fraction(rate) and info.vfr is False


def test_own_rate_takes_every_frame_although_the_container_rounds_times(make_video):
    truth = make_video("rounded.mkv", ((videos.RED, 3),), fps=30, numbered=True)
    frames, times, _, _ = read(truth.path, SampleSpec(fps=30))
    assert numbers(frames) == list(range(90))
    assert times[2] == Fraction(67, 1000)  # as the container keeps 2/30


def test_late_start_is_removed(late_start):
    frames, times, _, info = read(late_start.path)
    assert info.start_time == Fraction(18, 5) and info.has_audio
    assert times == late_start.times and numbers(frames) == list(range(75))
    assert info.duration == 3
    frames, times, _, _ = read(late_start.path, SampleSpec(fps=None, start=2))
    assert numbers(frames) == list(range(50, 75)) and times[0] == 2


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("hflip", [False, True])
def test_rotated_frames_come_out_upright(make_video, rotation, hflip):
    plain = make_video("plain.mp4", ((videos.GREEN, 0.4),), numbered=True)
    turned = make_video("turned.mp4", ((videos.GREEN, 0.4),), numbered=True, rotation=rotation, hflip=hflip)
    flat, _, _, _ = read(plain.path)
    upright, _, _, info = read(turned.path)
    expected = np.rot90(flat, -rotation // 90, axes=(1, 2))
    expected = expected[:, :, ::-1] if hflip else expected  # libav's matrix turns first, then flips what is shown
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).mean() < 1
    assert (info.height, info.width) == upright.shape[1:3]
    assert hflip or info.rotation == rotation
    small, _, _, _ = read(turned.path, SampleSpec(fps=None, size=(40, 20)))
    assert small.shape == (10, 40, 20, 3)


@pytest.mark.parametrize("size", [(97, 131), (95, 129), (2, 2), (17, 33)])
def test_odd_sizes(make_video, size):
    truth = make_video("odd.mkv", ((videos.BLUE, 0.4),), size=size, codec="ffv1", pix_fmt="yuv444p")
    frames, _, _, info = read(truth.path)
    assert frames.shape == (10, *size, 3) and (info.height, info.width) == size
    assert np.abs(np.subtract(videos.lower_color(frames[0]), videos.BLUE)).max() <= 3
    frames, _, _, _ = read(truth.path, SampleSpec(fps=None, size=(33, 21)))
    assert frames.shape == (10, 33, 21, 3)


def test_ten_bits(make_video):
    truth = make_video("ten.mkv", ((videos.GREEN, 0.4),), codec="libx265", pix_fmt="yuv420p10le", numbered=True)
    frames, times, _, info = read(truth.path)
    assert info.pix_fmt == "yuv420p10le" and numbers(frames) == list(range(10)) and times == truth.times
    assert np.abs(np.subtract(videos.lower_color(frames[5]), videos.GREEN)).max() <= 3


def test_interlaced_frames_leave_no_comb(make_video, tmp_path):
    truth = make_video(
        "interlaced.mkv", ((videos.GREEN, 0.6),), codec="mpeg2video", options={"flags": "+ilme+ildct"}, numbered=True
    )
    frames, times, _, info = read(truth.path)
    assert info.interlaced and frames.shape == (15, 96, 128, 3)
    assert numbers(frames) == list(range(15)) and times == truth.times
    assert np.abs(np.subtract(videos.lower_color(frames[5]), videos.GREEN)).max() <= 6


def test_raw_stream_has_no_times_and_no_duration(numbered, made):
    path = videos.write_raw_h264(made / "raw.h264", numbered.path)
    frames, times, stats, info = read(path)
    assert info.duration is None and info.clock == "rate" and info.fps == 25
    assert numbers(frames) == list(range(100)) and times == numbered.times
    assert stats.duration == 4 and stats.effective_fps == 25
    frames, times, stats, _ = read(path, SampleSpec(fps=None, max_frames=4))
    assert numbers(frames) == [0, 25, 50, 75] and stats.capped
    frames, _, _, _ = read(path, SampleSpec(fps=None, start=3))
    assert numbers(frames) == list(range(75, 100))
    with pytest.raises(InputError, match="no frame to decode"):
        read(path, SampleSpec(start=9))


def test_avi_keeps_decoding_times_only(make_video):
    truth = make_video("b_frames.avi", numbered=True)
    frames, times, stats, info = read(truth.path)
    assert info.clock == "dts" and stats.corrupt_packets == 0
    assert numbers(frames) == list(range(75)) and times == truth.times


def test_several_video_streams(tmp_path):
    import av

    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, (width, height) in zip(streams, [(64, 48), (160, 120)], strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(10):
            for stream, color in zip(streams, (videos.RED, videos.BLUE), strict=True):
                picture = videos.draw(color, (stream.height, stream.width), i)
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    frames, _, _, info = read(path)
    assert (info.stream, frames.shape[1:3]) == (1, (120, 160)) and numbers(frames) == list(range(10))
    frames, _, _, info = read(path, SampleSpec(fps=None, stream=0))
    assert (info.stream, frames.shape[1:3]) == (0, (48, 64)) and numbers(frames) == list(range(10))
    with pytest.raises(InputError, match="no video stream 2.*0, 1"):
        open_frames(path, SampleSpec(stream=2))


def test_pixels_that_are_not_square_are_shown_square(make_video):
    truth = make_video("anamorphic.mp4", ((videos.RED, 0.4),), sample_aspect_ratio=Fraction(3, 2))
    frames, _, _, info = read(truth.path)
    assert (info.height, info.width) == (96, 192) == frames.shape[1:3]


def test_truncated_file_gives_what_it_has(truncated):
    frames, times, stats, info = read(truncated.path)
    assert 20 < len(times) < 75 and numbers(frames)[:20] == list(range(20))
    assert times == tuple(truncated.times[number] for number in numbers(frames))
    assert stats.duration < info.duration == 3  # the header promises more than is there
    assert stats.truncated and not read(truncated.path, SampleSpec(end=1))[2].truncated
    assert stats.effective_fps == pytest.approx(len(times) / float(stats.duration))


def test_damaged_packets_are_skipped_and_counted(make_video, tmp_path):
    import av

    truth = make_video("whole.mov", codec="png", pix_fmt="rgb24", numbered=True)
    data = bytearray(truth.path.read_bytes())
    with av.open(str(truth.path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for i in (10, 11, 50):  # no PNG without its signature
        at = data.index(packets[i])
        data[at : at + 40] = b"\0" * 40
    path = tmp_path / "damaged.mov"
    path.write_bytes(bytes(data))
    frames, times, stats, _ = read(path)
    left = [i for i in range(75) if i not in (10, 11, 50)]
    assert stats.corrupt_packets == 3
    assert numbers(frames) == left and times == tuple(truth.times[i] for i in left)


@pytest.fixture(params=[None, (9, 16)], ids=["one thread", "two threads"])
def every(request):
    """Small pictures of all frames are wanted, which makes scaling the sampled ones the work of a second thread."""
    return request.param


def test_an_exception_in_the_thread_is_raised_in_the_consumer(numbered, tmp_path, every):
    path = tmp_path / "gone.mp4"
    shutil.copy(numbered.path, path)
    stream = open_frames(path, EVERY, every=every)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_leaving_early_joins_the_threads(numbered, every):
    import threading

    def at_work():
        return [t for t in threading.enumerate() if t.name in ("mambamia-decode", "mambamia-scale")]

    for take in (0, 1, 2):
        with open_frames(numbered.path, EVERY, chunk_frames=2, queue_chunks=1, every=every) as stream:
            for _ in range(take):
                next(stream)
        assert not at_work()
        with pytest.raises(StopIteration):
            next(stream)
    with pytest.raises(RuntimeError, match="consumer"), open_frames(numbered.path, EVERY, chunk_frames=2, every=every) as stream:
        next(stream)
        raise RuntimeError("consumer")
    assert not at_work()


@pytest.mark.parametrize("chunk_frames", [1, 7, 25, 32])
def test_all_frames_in_small_come_with_their_chunks(numbered, chunk_frames):
    """Every third frame is sampled. A chunk's small pictures are those decoded up to its last frame's end, and none is missing."""
    spec = SampleSpec(fps=Fraction(25, 3))
    with open_frames(numbered.path, spec, chunk_frames=chunk_frames) as stream:
        alone = list(stream)
    with open_frames(numbered.path, spec, chunk_frames=chunk_frames, every=(9, 16)) as stream:
        chunks = list(stream)
        stretches = [chunk.every for chunk in chunks] + [stream.rest]
    assert [c.times for c in chunks] == [c.times for c in alone]
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(alone, chunks, strict=True))
    assert tuple(t for s in stretches for t in s.times) == numbered.times
    for chunk in chunks:
        assert len(chunk.every.frames) == len(chunk.every.times) and chunk.every.times[-1] >= chunk.times[-1]
