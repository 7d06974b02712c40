"""`mambamia plan`: quick, without torch, from configs and headers alone."""

import json
import resource
import subprocess
import sys

import pytest

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
    best = float("inf")
    for _ in range(2):  # seconds of CPU, not of the clock: the machine may be busy with something else
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert best < 2
