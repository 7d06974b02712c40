"""What probe says of good files, and the one sentence it says of each kind of bad one."""

import subprocess
import sys
from fractions import Fraction

import pytest
from fixtures import videos

from mambamia_cli.errors import InputError, UsageError
from mambamia_cli.video.probe import probe
from mambamia_cli.video.sample import SampleSpec


def test_real_clips(bikes, bigbuckbunny):
    info = probe(bikes)
    assert (info.codec, info.width, info.height, info.frames) == ("h264", 640, 272, 250)
    assert (info.duration, info.fps, info.start_time, info.rotation) == (10, 25, 0, 0)
    assert (info.vfr, info.has_audio, info.interlaced, info.pix_fmt) == (False, False, False, "yuv420p")
    info = probe(bigbuckbunny)
    assert (info.width, info.height, info.has_audio) == (1280, 720, True)
    assert info.duration == Fraction(132, 25)


def test_rotation_is_told_and_size_is_upright(rotated):
    info = probe(rotated.path)
    assert (info.rotation, info.width, info.height) == (90, 96, 128)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("rate", [25, "30000/1001", 60])
def test_constant_rates_are_not_variable(make_video, suffix, rate):
    info = probe(make_video(f"clip.{suffix}", fps=rate).path)
    assert info.vfr is False
    assert abs(info.duration - 3) < Fraction(1, 20)


def test_variable_rate_is_seen(vfr, make_video):
    assert probe(vfr.path).vfr is True
    assert probe(make_video("v.mkv", pts=[0, 40, 80, 200, 240, 300, 900]).path).vfr is True


def test_duration_starts_at_the_first_frame(late_start):
    assert probe(late_start.path).duration == 3


@pytest.mark.parametrize(
    "name, message",
    [
        ("audio_only", "sound but no video"),
        ("zero_frames", "no frame of .* can be decoded"),
        ("text_named_mp4", "is not a video that libav can read"),
        ("empty_file", "is empty"),
    ],
)
def test_bad_files_get_one_sentence_with_a_remedy(request, name, message):
    with pytest.raises(InputError, match=message) as caught:
        probe(request.getfixturevalue(name))
    assert caught.value.exit_code == 3 and caught.value.hint and "\n" not in str(caught.value)


def test_missing_folder_and_odd_names(tmp_path, numbered):
    with pytest.raises(InputError, match="No such file"):
        probe(tmp_path / "nothing.mp4")
    with pytest.raises(InputError, match="is a folder"):
        probe(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        probe("a\0b.mp4")
    import os

    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="not a regular file"):
        probe(tmp_path / "pipe.mp4")
    odd = tmp_path / "http:% d#ü?.mp4"
    odd.write_bytes(numbered.path.read_bytes())
    assert probe(odd).frames == 100


def test_a_text_file_is_no_video_whatever_its_name(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("libav would draw this text as a terminal does\n" * 50)
    with pytest.raises(InputError, match="not a video"):
        probe(path)


def test_playlists_do_not_reach_the_network(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        path = tmp_path / "list.m3u8"
        head = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n"
        path.write_text(f"{head}http://127.0.0.1:{server.getsockname()[1]}/a.ts\n#EXT-X-ENDLIST\n")
        with pytest.raises(InputError):
            probe(path)
        with pytest.raises(TimeoutError):
            server.accept()


def test_cover_art_is_not_video(tmp_path):
    import av

    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=16000, layout="mono")
        container.mux(stream.encode(av.VideoFrame.from_ndarray(videos.draw(videos.RED, (64, 64)), "rgb24")))
        container.mux(stream.encode(None))
        videos._write_silence(container, sound, 0.5)
    with av.open(str(path)) as container:
        if not any(s.disposition & av.stream.Disposition.attached_pic for s in container.streams.video):
            pytest.skip("this libav does not keep the mark of cover art here")
    with pytest.raises(InputError, match="no video"):
        probe(path)


@pytest.mark.parametrize(
    "wrong",
    [{"fps": 0}, {"fps": -1}, {"max_frames": 0}, {"start": -1}, {"start": 5, "end": 5}, {"end": 0}, {"size": (0, 5)}],
)
def test_a_sampling_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UsageError):
        SampleSpec(**wrong)


def test_local_files_never_touch_yt_dlp_nor_torch(numbered):
    code = (
        "import sys; from mambamia_cli.video.decode import open_frames; from mambamia_cli.video.sample import SampleSpec;"
        "from mambamia_cli.video.grab import grab; from mambamia_cli.video.source import is_url;"
        f"path = {str(numbered.path)!r}; assert not is_url(path); n = sum(len(c.times) for c in open_frames(path, SampleSpec()));"
        "grab(path, [1]); assert n == 4; assert not {'yt_dlp', 'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
