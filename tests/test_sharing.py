"""Decoder, encoder and compressor beside one another: everybody has its threads and its place again afterwards."""

import os
import platform
import subprocess
import sys
import threading

import av
import numpy as np
import pytest
import torch

from mambamia_cli.pipeline.sharing import PATIENCE, POLITE, SHARERS, shared, stand_back
from mambamia_cli.video import SampleSpec, open_frames
from mambamia_cli.video.container import Decoder, prepare
from mambamia_cli.vision.backends import OnnxBackend
from mambamia_cli.vision.embedded import load_network


class Encoder:
    def __init__(self, backend):
        self.sharing = backend.sharing


@pytest.fixture(scope="module")
def backend():
    return OnnxBackend(load_network(), threads=4)


def test_threads_are_given_back_even_after_an_error(backend):
    torch_threads, pool = torch.get_num_threads(), backend.pool
    with pytest.raises(KeyError), shared(Encoder(backend)) as run:
        assert backend.threads == 4 // SHARERS and torch.get_num_threads() <= max(1, torch_threads // SHARERS)
        assert run(lambda a, b: a + b, 2, 3) == 5
        run({}.__getitem__, "nothing")
    assert (backend.threads, backend.pool, torch.get_num_threads()) == (4, pool, torch_threads)
    assert len(backend.run(torch.zeros(5, 3, 224, 224, dtype=torch.uint8))) == 5  # its own pool still works


def test_python_lock_is_handed_on_sooner_for_the_time_of_a_look_only(backend):
    before = sys.getswitchinterval()
    with pytest.raises(KeyError), shared(Encoder(backend)):
        assert sys.getswitchinterval() == pytest.approx(PATIENCE) and before > 2 * PATIENCE
        raise KeyError
    assert sys.getswitchinterval() == before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_memory_that_is_freed_is_not_asked_for_again():
    """In a process of its own: what is told to the C library lasts."""
    code = """
import resource, sys
import numpy as np
from mambamia_cli.pipeline.sharing import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        kept = [np.ones(3 << 20, np.uint8) for _ in range(16)]
        del kept
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
keep_freed_memory()
faults()
print(first, faults())
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert int(told[1]) < int(told[0]) / 20


def test_work_is_done_elsewhere_without_gradients(backend):
    with shared(Encoder(backend)) as run:
        weight = torch.ones(2, requires_grad=True)
        assert run(lambda: (threading.get_ident(), torch.is_inference_mode_enabled(), (weight * 2).requires_grad))[1:] == (True, False)
        assert run(threading.get_ident) != threading.get_ident()


def test_torch_has_all_threads_once_the_decoder_is_done(backend):
    before, done = torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        with shared(Encoder(backend), alone=lambda: bool(done)) as run:
            assert run(torch.get_num_threads) == 1
            done.append(True)
            assert run(torch.get_num_threads) == 4
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "setpriority"), reason="this system has no priorities of threads")
def test_only_the_thread_that_stands_back_does(backend):
    before, seen = os.getpriority(os.PRIO_PROCESS, 0), []

    def polite():
        stand_back()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=polite)
    thread.start()
    thread.join()
    assert seen == [min(before + POLITE, 19)] and os.getpriority(os.PRIO_PROCESS, 0) == before


def test_one_decoding_thread_gives_the_same_frames_and_unsmoothed_ones_are_near(bikes):
    def read(decoder):
        with open_frames(bikes, SampleSpec(size=(68, 160), end=2), decoder=decoder) as stream:
            chunks = list(stream)
        return [t for c in chunks for t in c.times], np.concatenate([c.frames for c in chunks])

    times, frames = read(Decoder())
    alone, rough = read(Decoder(threads=1)), read(Decoder(threads=1, smooth=False))
    assert alone[0] == times == rough[0] and np.array_equal(alone[1], frames)
    apart = np.abs(rough[1].astype(int) - frames).mean((1, 2, 3))  # a frame
    assert apart.max() < 2.0


def test_unsmoothed_frames_are_those_between_others(tmp_path):
    """Of H.264: keyframes are decoded in full, and P frames but for what they take over from B frames, so that next to nothing adds up."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "35", "bf": "3", "x264-params": "b-pyramid=normal:b-adapt=0"})
        stream.height, stream.width, stream.pix_fmt = 180, 320, "yuv420p"
        for k in range(50):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(noise, 3 * k, 1), "rgb24")))
        out.mux(stream.encode())

    def read(decoder):
        with av.open(str(path)) as video:
            prepare(video.streams.video[0], decoder=decoder)
            return [("?IPB"[frame.pict_type], frame.to_ndarray().astype(int)) for frame in video.decode(video=0)]

    whole, rough = read(Decoder(1)), read(Decoder(1, smooth=False))
    apart = {kind: [np.abs(a - b).mean() for (one, a), (_, b) in zip(whole, rough, strict=True) if one == kind] for kind in "IPB"}
    assert len(apart["I"]) >= 1 and max(apart["I"]) == 0
    assert len(apart["P"]) > 10 and max(apart["P"]) < 0.05
    assert len(apart["B"]) > 30 and min(apart["B"]) > 0 and np.median(apart["B"]) > 1.5 * max(apart["P"])
