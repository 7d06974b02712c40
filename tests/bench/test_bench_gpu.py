"""`mambamia bench gpu` without a GPU: on a CPU with a tiny model it measures, counts and says plainly what it is; what it keeps is
what `plan` reads. With a card in torch's place: when the timer waits."""

import json
from types import SimpleNamespace

import pytest
import torch
from fixtures.relatives import CONFIG

from mambamia_cli.bench import gpu, report
from mambamia_cli.plan import speed


@pytest.fixture
def small(monkeypatch, cache):
    """The film that is made, and what is repeated, cut down; a cache of the test's own."""
    monkeypatch.setattr(report, "CLIP_SECONDS", 2)
    monkeypatch.setattr(report, "CLIP_SIZE", (96, 128))
    monkeypatch.setattr(gpu, "REPEATS_CPU", 2)
    monkeypatch.setattr(gpu, "PROMPT_TOKENS", 64)
    monkeypatch.setattr(gpu, "NEW_TOKENS", 4)
    return cache


def run_cli(*argv, capfd):
    from mambamia_cli.cli.app import run

    code = run([str(word) for word in argv])
    out, err = capfd.readouterr()
    return SimpleNamespace(code=code, out=out, err=err)


def test_on_a_cpu_and_then_the_plan(small, tiny_model, tmp_path, capfd):
    plan = ("plan", "100s", "-m", tiny_model, "--device", "cpu")
    before = run_cli(*plan, capfd=capfd)
    assert before.code == 0 and "mambamia bench gpu" in before.out and "expected on" not in before.out

    ran = run_cli("bench", "gpu", "-m", tiny_model, "--device", "cpu", "--json", "-o", tmp_path / "bench.json", capfd=capfd)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    written = json.loads((tmp_path / "bench.json").read_text())
    found = written["sections"]["gpu"]
    assert (found["device"], found["card"], found["saved"]) == ("cpu", None, True)
    assert [row["stage"] for row in found["stages"]] == list(speed.RATES)
    assert all(row["value"] > 0 and row["median_s"] > 0 and row["runs"] == 2 for row in found["stages"])
    for row in found["stages"][1:]:
        assert row["peak_bytes"] > 10_000
    for both in found["memory"].values():
        assert abs(both["planned"] / both["measured"] - 1) < 0.25
    assert found["versions"]["torch"] == torch.__version__ and "plain torch" in found["uses"]["scan"]

    text = report.to_text(written)
    assert "NO GPU WAS USED" in text and "| prefill " in text
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1  # a table that lines up

    after = run_cli(*plan, capfd=capfd)
    assert f"expected on this machine (mambamia bench gpu of {found['date']}):" in after.out
    record = json.loads(run_cli(*plan, "--json", capfd=capfd).out)
    rate = {row["stage"]: row["value"] for row in found["stages"]}
    frames = record["tokens"]["frames"]
    watch = max(record["video"]["frames"] / rate["decode"], frames / rate["vision"] + frames / rate["compressor"])
    assert record["expected_s"]["watch"] == pytest.approx(watch, abs=0.01)
    assert record["expected_s"]["prefill"] == pytest.approx(record["tokens"]["prompt"] / rate["prefill"], abs=0.01)
    assert record["benched"] == found["date"]


@pytest.mark.parametrize("text", ["", "[]", '{"format": "mambamia.bench/1", "rates": {}, "about": {}}',
                                  '{"format": "other", "rates": {"decode": 1, "vision": 1, "compressor": 1, "prefill": 1, "write": 1}, "about": {"date": "x"}}',
                                  '{"format": "mambamia.bench/1", "rates": {"decode": 0, "vision": 1, "compressor": 1, "prefill": 1, "write": 1}, "about": {"date": "x"}}'])  # fmt: skip
def test_a_damaged_bench_is_none(cache, text):
    good = speed.save("m", "cpu", "int4", dict.fromkeys(speed.RATES, 2.0), {"date": "2020-02-02"})
    assert speed.rates("m", "cpu", "int4") == (dict.fromkeys(speed.RATES, 2.0), "2020-02-02")
    assert [p.name for p in good.parent.iterdir()] == [good.name]
    assert speed.rates("m", "cuda", "int4") is None
    good.write_text(text)
    assert speed.rates("m", "cpu", "int4") is None


def test_only_mambamia_models(small, tmp_path, capfd):
    (tmp_path / "relative").mkdir()
    (tmp_path / "relative" / "config.json").write_text(json.dumps(CONFIG))
    ran = run_cli("bench", "gpu", "-m", tmp_path / "relative", capfd=capfd)
    assert ran.code == 2 and "MambaMia" in ran.err and ran.out == ""


def test_what_does_not_fit_is_refused_before_it_is_loaded(small, tiny_model, capfd, monkeypatch):
    monkeypatch.setattr("mambamia_cli.plan.limits.available_memory", lambda: 300 << 20)
    monkeypatch.setattr("mambamia_cli.vision.encoder.load_encoder", lambda *a, **k: pytest.fail("loaded"))
    ran = run_cli("bench", "gpu", "-m", tiny_model, "--device", "cpu", capfd=capfd)
    assert ran.code == 6 and "this machine has 300 MiB" in ran.err


def test_on_a_card_time_is_taken_between_waits(monkeypatch):
    """Work is only queued when a call returns, so a clock that does not wait measures nothing. The peak is each stage's own."""
    told = []
    for name in ("synchronize", "reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda *a, name=name: told.append(name) or 7)
    run = gpu._Timer("cuda", 2)(lambda: told.append("work"), [])
    assert run["peak_bytes"] == 7 and run["runs"] == 2
    timed = ["synchronize", "work", "synchronize"]
    assert told == ["work", "synchronize", "reset_peak_memory_stats", *timed, *timed, "max_memory_allocated"]


def test_the_card_is_named(monkeypatch):
    facts = SimpleNamespace(name="Card 1", total_memory=12 << 30, major=8, minor=9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
    monkeypatch.setattr(gpu, "driver", lambda: "555.1")
    card = gpu.card_facts("cuda:0")
    assert (card["name"], card["capability"], card["driver"]) == ("Card 1", "8.9", "555.1")
    assert gpu.card_facts("cpu") is None
