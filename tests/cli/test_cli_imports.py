"""The doors open quickly: importing the command line loads none of the heavy packages."""

import resource
import subprocess
import sys

HEAVY = ("torch", "transformers", "av", "matplotlib", "bitsandbytes", "onnxruntime", "yt_dlp", "numpy")


def test_importing_the_command_line_loads_nothing_heavy():
    code = f"import sys, mambamia_cli.cli.app; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_is_quick_and_names_every_command():
    best = float("inf")
    for _ in range(3):  # seconds of CPU, not of the clock: the machine may be busy with something else
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "mambamia_cli", "--help"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    for command in ("ask", "scenes", "summarize", "batch", "models", "doctor", "bench"):
        assert command in done.stdout
    assert best < 0.8  # 0.2 s on an idle machine of two cores


def test_a_flag_is_not_said_to_take_a_value():
    """`--json true` would be taken for a video named true."""
    done = subprocess.run([sys.executable, "-m", "mambamia_cli", "scenes", "--help"], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if "bool" in line]
    assert "--json" in done.stdout and "--refine" in done.stdout and all("--help" in line for line in lines)
