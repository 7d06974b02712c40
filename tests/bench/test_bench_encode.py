"""The encoder's bench times what it says, and calls equal only what is equal."""

import pytest
import torch

from mambamia_cli.bench import encode


@pytest.fixture(scope="module")
def result():
    pytest.importorskip("onnxruntime")
    before = torch.get_num_threads()
    result = encode.bench_encode(threads=1, batch=1, seconds=0)
    assert torch.get_num_threads() == before
    return result


def test_rows(result):
    rows = {row["name"]: row for row in result["rows"]}
    assert {"torch", "onnxruntime", "torch bf16"} <= set(rows)
    assert rows["torch"]["speedup"] == 1 and rows["torch"]["difference"] == 0
    for row in rows.values():
        ratio = row["frames_per_s"] / rows["torch"]["frames_per_s"]
        assert row["speedup"] == pytest.approx(ratio) and row["load_s"] > 0


def test_equal_means_rounding(result):
    rows = {row["name"]: row for row in result["rows"]}
    assert rows["onnxruntime"]["equal"] and 0 < rows["onnxruntime"]["difference"] < encode.EQUAL
    assert not rows["torch bf16"]["equal"]


def test_what_cannot_run_is_left_out_with_its_reason(result, monkeypatch):
    assert "torch.compile" in result["left_out"]

    def refuse(*_args, **_options):
        raise ImportError("no such runtime")

    monkeypatch.setattr(encode, "OnnxBackend", refuse)
    monkeypatch.setattr(encode, "_frozen", refuse)
    runs, load_s, left_out = encode._backends(1, torch.zeros(1, 3, 224, 224, dtype=torch.uint8), False)
    assert left_out["onnxruntime"] == "no such runtime"
    assert "torch" in runs and set(runs) == set(load_s)


def test_race_takes_the_fastest_turn(monkeypatch):
    """With a clock of our own: the first turn takes 3 s, the second 1 s."""
    ticks = iter([0.0, 0.0, 3.0, 3.0, 4.0, 11.0])
    monkeypatch.setattr(encode.time, "perf_counter", lambda: next(ticks))
    assert encode._race({"only": lambda frames: frames}, torch.zeros(1), seconds=10.0) == {"only": 1.0}


def test_table(result):
    text = encode.format_encode(result)
    assert all(row["name"] in text for row in result["rows"])
    assert "left out: torch.compile" in text
