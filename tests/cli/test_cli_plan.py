"""`mambamia plan`: quick, without torch, from configs and headers alone."""

import json

import pytest
from fixtures.processes import cpu_seconds

PAPER = ("384s", "--fps", "1", "--vision", "siglip2-so400m", "--llm", "qwen2-7b")


def test_a_file_and_a_model(mambamia, three_cuts, tiny_model):
    ran = mambamia("plan", three_cuts.path, "-m", tiny_model, "--device", "cpu", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found["schema"] == "mambamia.plan/1"
    # eight seconds at four frames a second; 49 patches and 7 anchors each; all of them fit the context of 2048
    assert found["tokens"] | {"prompt": 0} == {"frames": 32, "patches": 32 * 49, "anchors": 32 * 7, "kept_frames": 32, "visual": 64, "prompt": 0, "answer": 128}
    assert found["video"]["width"] == 128 and found["video"]["frames"] == 200
    assert all(stage["host"] > 300 << 20 and stage["device"] == 0 for stage in found["stages"].values())
    text = mambamia("plan", three_cuts.path, "-m", tiny_model, "--device", "cpu")
    assert "frames looked at" in text.out and "no bench of this model" in text.out


def test_what_fits_which_card(mambamia):
    ran = mambamia("plan", *PAPER, "--device", "cuda", "--json")
    fits = json.loads(ran.out)["fits"]
    assert list(fits) == ["8", "12", "16", "24"]
    peaks = [found["peak"] for found in fits.values()]
    assert all(peak <= int(size) << 30 for size, peak in zip(fits, peaks, strict=True))
    assert fits["8"]["weights_together"] is False and fits["24"]["weights_together"] is True
    shown = mambamia("plan", *PAPER, "--device", "cuda").out
    assert all(f"{size} GiB" in shown for size in fits) and "assumed, not measured" in shown


def test_limits_refuse_early_and_name_the_flag(mambamia):
    ran = mambamia("plan", *PAPER, "--vram-limit", "7GiB", "--token-budget", "20000", "--quant", "bf16")
    assert ran.code == 6 and "--vram-limit 7GiB" in ran.one_sentence() and "use --quant nf4" in ran.one_sentence()
    assert mambamia("plan", *PAPER, "--vram-limit", "much").code == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["none.mp4"], 3),
        (["384s", "--vision", "siglip2-so400m"], 2),
        (["384s", "--vision", "siglip2-so400m", "--llm", "no-such-model"], 5),
        (["384s", "-s", "400"], 2),
        (["https://example.org/a.mp4"], 2),
    ],
)
def test_bad_input_is_one_sentence(mambamia, words, code):
    ran = mambamia("plan", *words)
    assert (ran.code, ran.out) == (code, "") and ran.one_sentence()


def test_it_is_quick_and_loads_no_torch(three_cuts):
    code = (
        "import sys; from mambamia_cli.cli.app import run; "
        f"code = run(['plan', {str(three_cuts.path)!r}, '--device', 'cpu']); "
        "print(code, [m for m in ('torch', 'transformers', 'onnxruntime') if m in sys.modules])"
    )
    best, printed = cpu_seconds(code)
    assert printed.splitlines()[-1] == "0 []"
    assert best < 2


def host_need(model, chunk):
    """Bytes of the host's that the tiny model needs for 32 frames of 96 x 128."""
    from mambamia_cli.models.folder import read_folder
    from mambamia_cli.plan import estimate, parts

    task = estimate.Task(32, 8.0, (96, 128), max_tokens=2)
    return max(need.host for need in estimate.needs(parts.of_folder(read_folder(str(model))), task, estimate.Settings(chunk=chunk)).values())


def test_a_limit_is_kept_by_smaller_chunks(mambamia, three_cuts, tiny_model, monkeypatch):
    """`ask` plans with the limit, works with what was settled, and refuses before it loads when nothing helps."""
    from mambamia_cli.pipeline import index

    given, watch = [], index.watch
    least, most = (host_need(tiny_model, chunk) for chunk in (1, 32))
    assert most > least + (5 << 20)
    monkeypatch.setattr("mambamia_cli.pipeline.video.watch", lambda path, spec, models, **more: given.append(models.settings) or watch(path, spec, models, **more))
    assert mambamia("ask", three_cuts.path, "what?", "-m", tiny_model, "--device", "cpu", "--max-tokens", 2, "--ram-limit", "20GiB").code == 0
    assert mambamia("ask", three_cuts.path, "what?", "-m", tiny_model, "--device", "cpu", "--max-tokens", 2, "--ram-limit", f"{(least + most) // 2 / (1 << 20):.0f}MiB").code == 0
    assert given[0].chunk == 32 and given[0].together and given[1].chunk < 32
    ran = mambamia("ask", three_cuts.path, "what?", "-m", tiny_model, "--device", "cpu", "--ram-limit", "200MiB")
    assert ran.code == 6 and "--ram-limit 200MiB" in ran.one_sentence() and len(given) == 2
    for command in ("scenes", "summarize"):
        assert mambamia(command, three_cuts.path, "-m", tiny_model, "--device", "cpu", "--ram-limit", "200MiB").code == 6
