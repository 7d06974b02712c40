"""Sound at 16 kHz: the samples that went in, at the picture's times, in bounded memory."""

import tracemalloc

import numpy as np
import pytest
from fixtures.sounds import chirp, write_with_sound
from fixtures.videos import write_video

from mambamia_cli.errors import InputError
from mambamia_cli.video.audio import RATE, WINDOW, has_sound, open_sound


def heard(path, *span) -> np.ndarray:
    windows = list(open_sound(path, *span))
    assert all(len(w) == WINDOW for w in windows[:-1]) and all(w.dtype == np.float32 for w in windows)
    return np.concatenate(windows) if windows else np.zeros(0, np.float32)


def alike(got: np.ndarray, wanted: np.ndarray, error=0.02) -> None:
    """Equal up to resampling and coding, the first and last 20 ms apart (filters ring there)."""
    assert abs(len(got) - len(wanted)) <= RATE // 20, (len(got), len(wanted))
    n, edge = min(len(got), len(wanted)), RATE // 50
    difference = got[edge : n - edge] - wanted[edge : n - edge]
    assert np.sqrt((difference**2).mean()) < error


@pytest.mark.parametrize("name, codec, rate, channels", [
    ("a.mkv", "pcm_s16le", 48000, 1), ("a.mkv", "pcm_s16le", 44100, 2), ("a.mov", "pcm_s16le", 16000, 1), ("a.mp4", "aac", 48000, 2),
    ("a.avi", "pcm_s16le", 44100, 1),
])  # fmt: skip
def test_the_samples_that_went_in(tmp_path, name, codec, rate, channels):
    path = write_with_sound(tmp_path / name, chirp(3, rate), rate, codec=codec, channels=channels)
    alike(heard(path), chirp(3, RATE), 0.04 if codec == "aac" else 0.02)


def test_windows_are_thirty_seconds_and_no_sample_is_lost_between_them(tmp_path):
    path = write_with_sound(tmp_path / "a.mkv", chirp(65, 16000, of=65), 16000, seconds=65, fps=1)
    assert [len(w) for w in open_sound(path)] == [WINDOW, WINDOW, 5 * RATE]
    np.testing.assert_allclose(heard(path), chirp(65, 16000, of=65), atol=1e-4)


@pytest.mark.parametrize("span", [(0, 1.5), (1.25, 2.5), (2, None), (2.5, 60)])
def test_a_range_is_cut_from_the_sound_exactly(tmp_path, span):
    path = write_with_sound(tmp_path / "a.mkv", chirp(4, 16000), 16000)
    start, end = round(span[0] * RATE), None if span[1] is None else round(span[1] * RATE)
    np.testing.assert_allclose(heard(path, *span), chirp(4, RATE)[start:end], atol=1e-4)


def test_a_range_far_into_a_file_is_sought(tmp_path):
    sound = chirp(40, 16000)
    path = write_with_sound(tmp_path / "a.mkv", sound, 16000, seconds=40)
    np.testing.assert_allclose(heard(path, 31, 33), sound[31 * RATE : 33 * RATE], atol=1e-4)


@pytest.mark.parametrize("picture_from, sound_from", [(0.0, 0.5), (0.5, 0.0), (1.0, 1.0)])
def test_second_zero_is_the_first_frame(tmp_path, picture_from, sound_from):
    path = write_with_sound(tmp_path / "a.mkv", chirp(3, 16000), 16000, picture_from=picture_from, sound_from=sound_from)
    lead = round((sound_from - picture_from) * RATE)
    wanted = np.concatenate([np.zeros(max(lead, 0), np.float32), chirp(3, RATE)[max(-lead, 0) :]])
    np.testing.assert_allclose(heard(path), wanted, atol=1e-4)


def test_silence_stands_in_for_missing_packets(tmp_path):
    path = write_with_sound(tmp_path / "a.mkv", chirp(4, 16000), 16000, gap=(1.0, 2.5))
    wanted = chirp(4, RATE)
    wanted[RATE : RATE * 5 // 2] = 0
    np.testing.assert_allclose(heard(path), wanted, atol=1e-4)


def test_damaged_packets_are_left_out_and_the_rest_stays_in_its_place(tmp_path):
    path = write_with_sound(tmp_path / "a.mp4", chirp(6, 48000), 48000, codec="aac")
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 3000, 3):
        data[at] ^= 0xFF
    path.write_bytes(data)
    got = heard(path)
    alike(got[: RATE * 2], chirp(6, RATE)[: RATE * 2], 0.05)
    alike(got[RATE * 5 : RATE * 6], chirp(6, RATE)[RATE * 5 :], 0.1)  # a fraction of a sample off


def test_a_video_without_sound_gives_nothing(tmp_path):
    path = write_video(tmp_path / "a.mp4").path
    assert not has_sound(path) and list(open_sound(path)) == []
    assert has_sound(write_with_sound(tmp_path / "b.mkv", chirp(1, 16000), 16000))


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        has_sound(tmp_path / "none.mp4")


def test_memory_does_not_grow_with_the_length(tmp_path):
    path = write_with_sound(tmp_path / "a.mkv", chirp(150, 16000), 16000, seconds=150, fps=1)
    tracemalloc.start()
    count = sum(len(w) for w in open_sound(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 150 * RATE and peak < 4 * WINDOW * 4, peak
