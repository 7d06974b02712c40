"""What only a process of its own shows: Ctrl-C, SIGTERM, a closed pipe, a full stdout."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures import videos


@pytest.fixture(scope="module")
def long_video(made):
    """A minute, which takes many seconds to look at at 25 frames a second."""
    path = made / "long.mp4"
    if not path.exists():
        videos.write_video(path, ((videos.RED, 30), (videos.GREEN, 30)), size=(48, 64))
    return path


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_ends_quietly_and_leaves_nothing(spawn, long_video, tiny_model, tmp_path, number, code):
    target = tmp_path / "a.json"
    words = ("--fps", "all", "--threads", 1, "--json", "-o", target, "--plot", tmp_path / "a.png")
    process = spawn("scenes", long_video, "-m", tiny_model, *words)
    deadline = time.monotonic() + 60
    # The temporary file of the output exists from when the run starts.
    while not any(name.endswith(".part") for name in os.listdir(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", "mambamia: error: interrupted\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="sees in /proc what is being loaded")
def test_ctrl_c_while_packages_are_loading(spawn, long_video, tiny_model):
    process, deadline = spawn("scenes", long_video, "-m", tiny_model), time.monotonic() + 60
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT) and out == "" and "Traceback" not in err


@pytest.fixture
def main_with(tmp_path):
    """main_with(code) -> the finished process of `python -m` whose command is `code`, the body of a function."""

    def call(code: str) -> subprocess.CompletedProcess:
        head = "import os, signal, sys, time; from mambamia_cli import __main__; from mambamia_cli.cli import app\n"
        body = f"def work(argv):\n    {code}\napp._parse_and_run = work\nsys.exit(__main__.main())\n"
        (tmp_path / "probe_main.py").write_text(head + body)
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run([sys.executable, "-m", "probe_main"], capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": path}, timeout=60)  # fmt: skip

    return call


def test_an_interrupt_inside_executed_text_still_gives_our_code(main_with):
    """Where a signal meets `exec` of a string, CPython would end `python -m` by SIGINT even after it was handled."""
    done = main_with("exec('raise KeyboardInterrupt')")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "mambamia: error: interrupted\n")


@pytest.mark.parametrize("number, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_during_an_import_waits_for_its_end(main_with, tmp_path, number, code):
    """An import that dies of an exception, as extensions in C++ do."""
    module = f"import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.{number})\n    time.sleep(0.3)\n"
    (tmp_path / "fragile.py").write_text(module + "except BaseException:\n    os.abort()\n")
    done = main_with("import fragile; print('imported', flush=True); time.sleep(120)")
    assert (done.returncode, done.stdout, done.stderr) == (code, "imported\n", "mambamia: error: interrupted\n")


def test_a_second_signal_right_after_does_not_stop_the_clearing_up(main_with):
    """As `timeout` sends them, to its process and then to the group; one that comes later counts."""
    again = "os.kill(os.getpid(), signal.SIGTERM)"
    late = "time.sleep(app.ONE_INTERRUPT + 0.1)"
    done = main_with(f"try: {again}; time.sleep(60)\n    finally: {again}; time.sleep(0.1); print('cleared', flush=True)")
    assert (done.returncode, done.stdout, done.stderr) == (143, "cleared\n", "mambamia: error: interrupted\n")
    done = main_with(f"try: {again}; time.sleep(60)\n    finally: {late}; {again}; time.sleep(0.1); print('cleared', flush=True)")
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "mambamia: error: interrupted\n")


def test_a_closed_pipe_ends_quietly(spawn, three_cuts, tiny_model):
    process = spawn("scenes", three_cuts.path, three_cuts.path, "-j", "-m", tiny_model)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=60) == 0


def test_a_closed_pipe_costs_no_file_that_was_asked_for(spawn, three_cuts, tiny_model, tmp_path):
    words = ("--plot", tmp_path / "a.png", "--split", tmp_path / "pieces", "--threshold", 0.01, "--no-refine")
    process = spawn("scenes", three_cuts.path, "-m", tiny_model, *words)
    process.stdout.close()
    told = process.stderr.read()
    assert process.wait(timeout=60) == 0 and "listed in" in told and "error" not in told
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "pieces" / "three_cuts-pieces.csv").exists()


def test_a_closed_pipe_hides_no_failure(spawn, three_cuts, tiny_model, tmp_path):
    process = spawn("scenes", three_cuts.path, tmp_path / "gone.mp4", "-m", tiny_model, "--thumbs", tmp_path / "thumbs")
    process.stdout.close()
    assert "gone.mp4 does not exist" in process.stderr.read() and process.wait(timeout=60) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("words", [("--version",), ("models", "list"), ("scenes",)])
def test_a_full_stdout_is_an_error(three_cuts, tiny_model, words, unbuffered):
    """Also with a buffer, which Python would flush once more at exit and end with a code of its own."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | ({"PYTHONUNBUFFERED": "1"} if unbuffered else {})
    words = (*words, three_cuts.path, "-m", tiny_model) if words == ("scenes",) else words
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "mambamia_cli", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=env)
    assert done.returncode == 2 and "no space left" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_streams_that_the_caller_closed_are_no_failure(closed):
    ran = subprocess.run(["sh", "-c", f'"$0" -m mambamia_cli --help {closed}', sys.executable], check=False, capture_output=True, text=True)
    assert ran.returncode == 0 and "Traceback" not in ran.stderr
