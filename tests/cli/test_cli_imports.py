"""The doors open quickly: importing the command line loads none of the heavy packages."""

import subprocess
import sys
import time

HEAVY = ("torch", "transformers", "av", "matplotlib", "bitsandbytes", "onnxruntime", "yt_dlp", "numpy")


def test_importing_the_command_line_loads_nothing_heavy():
    code = f"import sys, mambamia_cli.cli.app; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_is_quick_and_names_every_command():
    best = float("inf")
    for _ in range(3):  # the machine may be busy with something else: the best of three counts
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "mambamia_cli", "--help"], capture_output=True, text=True, check=True)
        best = min(best, time.perf_counter() - began)
    for command in ("ask", "scenes", "summarize", "models", "doctor", "bench"):
        assert command in done.stdout
    assert best < 0.8  # 0.2 s on an idle machine of two cores
