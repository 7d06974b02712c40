import pytest

from mambamia_cli.bench.decode import decode_speed


def test_it_counts_what_it_went_through(bikes):
    every = decode_speed(bikes, fps=None, size=(32, 32))
    assert (every.sampled, every.decoded, every.video_seconds) == (250, 250, 10.0)
    assert every.frames_per_second == pytest.approx(250 / every.seconds)
    part = decode_speed(bikes, fps=1, size=(32, 32), seconds=4)
    assert (part.sampled, part.video_seconds) == (4, 4.0) and part.decoded <= 125
