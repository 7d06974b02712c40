"""Decoder, encoder and compressor beside one another: everybody has its threads and its place again afterwards."""

import os
import threading

import numpy as np
import pytest
import torch

from mambamia_cli.pipeline.sharing import POLITE, SHARERS, shared, stand_back
from mambamia_cli.video import SampleSpec, open_frames
from mambamia_cli.video.container import Decoder
from mambamia_cli.vision.backends import OnnxBackend, TorchBackend
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
    assert len(backend.run(torch.zeros(5, 3, 224, 224, dtype=torch.uint8))[0]) == 5  # its own pool still works


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


@pytest.mark.parametrize("kind", [OnnxBackend, TorchBackend])
def test_patches_without_logits_are_the_same(kind):
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 224, 224), np.uint8))
    one = kind(load_network(), threads=1)
    patches, logits = one.run(frames)
    alone, nothing = one.run(frames, classify=False)
    assert logits.shape == (3, 1000) and nothing is None and torch.equal(patches, alone)


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
