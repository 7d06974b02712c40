"""Which device a run takes, and how memory on it is asked for, with stand-ins where torch would ask a driver."""

import logging
from types import SimpleNamespace

import pytest
import torch

from mambamia_cli.compressor.kernels import kernels_for
from mambamia_cli.errors import UsageError
from mambamia_cli.language.model import free_cached
from mambamia_cli.pipeline.engine import free_memory, pick_device
from mambamia_cli.plan.limits import limits_of


@pytest.fixture
def machine(monkeypatch):
    """machine(cuda=0, xpu=0, mps=False): how many there are of each; -> devices whose caches were emptied."""
    emptied = []

    def set_up(cuda=0, xpu=0, mps=False):
        for name, count in (("cuda", cuda), ("xpu", xpu)):
            kind = getattr(torch, name)
            monkeypatch.setattr(kind, "is_available", lambda count=count: count > 0)
            monkeypatch.setattr(kind, "device_count", lambda count=count: count)
            monkeypatch.setattr(kind, "is_initialized", lambda count=count: count > 0)
            monkeypatch.setattr(kind, "empty_cache", lambda name=name: emptied.append(name))
            monkeypatch.setattr(kind, "mem_get_info", lambda device: (5 << 30, 8 << 30))
        monkeypatch.setattr(torch.backends, "mps", SimpleNamespace(is_available=lambda: mps))
        return emptied

    return set_up


@pytest.mark.parametrize("there, wanted, chosen", [
    ({}, "auto", "cpu"), ({"cuda": 1, "xpu": 1}, "auto", "cuda"), ({"xpu": 1}, "auto", "xpu"), ({"mps": True}, "auto", "mps"),
    ({"xpu": 2}, "xpu:1", "xpu:1"), ({"cuda": 2}, "cuda:1", "cuda:1"), ({"cuda": 1}, "cpu", "cpu"),
    ({"xpu": 1}, "xpu:1", None), ({}, "xpu", None), ({"cuda": 1}, "cuda:1", None), ({"cuda": 1}, "mps", None),
])  # fmt: skip
def test_what_is_taken_is_there(machine, there, wanted, chosen):
    machine(**there)
    if chosen is None:
        with pytest.raises(UsageError, match=f"--device {wanted} is not on this machine"):
            pick_device(wanted)
    else:
        assert pick_device(wanted) == chosen


def test_free_memory_and_caches(machine):
    emptied = machine(xpu=1)
    assert free_memory("xpu:0") == 5 << 30 and free_memory("mps") is None and free_memory("cpu") is None
    free_cached()
    assert emptied == ["xpu"]


@pytest.mark.parametrize("kind", ["xpu", "mps", "cpu"])
def test_the_scan_is_ours_where_there_is_no_cuda(kind):
    found = kernels_for(kind)
    assert found.scan.function is found.conv.function is None and f"on {kind}, not cuda" in found.scan.reason


def test_a_limit_of_gpu_memory_without_a_gpu_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        assert limits_of("200MiB", None, "cuda").vram == 0 and not caplog.records
        assert limits_of("200MiB", None, "cpu").vram is None
    assert "--vram-limit 200MiB limits nothing here" in caplog.text and "--ram-limit does" in caplog.text
