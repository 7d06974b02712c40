"""`mambamia train` as processes: killed outright it loses little and ends the same; two under torchrun equal one alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fixtures import llava_data
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
TOML = """
frames = 4
fps = 1.0
log_every = 1
max_length = 1024
gradient_checkpointing = {checkpointing}
[compressor]
{compressor}
[lora]
rank = 4
[align]
lr = 5e-3
steps = {steps}
accumulate = {accumulate}
[tune]
lr = 5e-3
steps = 3
accumulate = {accumulate}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    llava_data.write_vision(folder / "vision")
    llava_data.write_language(folder / "language")
    llava_data.write_data(folder)
    return folder


def command(place, work, *more, steps=4, accumulate=1):
    sizes = "\n".join(f"{key} = {value}" for key, value in llava_data.COMPRESSOR.items())
    recipe = place / f"{work.name}.toml"
    recipe.write_text(TOML.format(compressor=sizes, steps=steps, accumulate=accumulate, checkpointing="true"))
    return ["-m", "mambamia_cli", "train", "--config", str(recipe), "--vision", str(place / "vision"), "--llm", str(place / "language"),
            "--data", str(place / "data.json"), "--media", str(place / "media"), "--work", str(work), "--device", "cpu", *more]  # fmt: skip


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}


def rows(work, stage):
    path = work / stage / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def same(one, two):
    a, b = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(*arguments):
    result = subprocess.run([sys.executable, *arguments], env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_with_the_same_bits(place, tmp_path, monkeypatch):
    """SIGKILL in the midst of a stage, three times; the checkpoint interval is shortened so that there is something to lose."""
    starter = "import sys; import mambamia_cli.training.checkpoint as c; c.EVERY_SECONDS = 0.3; from mambamia_cli.__main__ import main; sys.exit(main())"
    arguments = command(place, tmp_path / "killed", "--stage", "align", steps=30)[2:]
    kills, seen = 0, 0
    while kills < 3:
        process = subprocess.Popen([sys.executable, "-c", starter, *arguments], env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
        checkpoint, before = tmp_path / "killed" / "align" / "checkpoint.pt", seen
        while process.poll() is None and seen <= before + 2:
            time.sleep(0.01)
            seen = max([row["step"] for row in _whole(rows, tmp_path / "killed")], default=0)
        assert process.poll() is None, "it was done before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        assert checkpoint.exists() or kills == 1
    subprocess.run([sys.executable, "-c", starter, *arguments], env=environment(), cwd=ROOT, check=True, timeout=900)
    run(*command(place, tmp_path / "straight", "--stage", "align", steps=30))
    assert [row["step"] for row in rows(tmp_path / "killed", "align")] == list(range(1, 31))
    assert [r["loss"] for r in rows(tmp_path / "killed", "align")] == [r["loss"] for r in rows(tmp_path / "straight", "align")]
    for part in ("compressor", "projector"):
        assert same(tmp_path / "killed" / "model" / part, tmp_path / "straight" / "model" / part)


def _whole(read, work):
    try:
        return read(work, "align")
    except ValueError:  # a line is being written
        return []


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(place, tmp_path):
    """Both stages, dropout, choices of frames, broken rows and a row without a medium on one side only."""
    run(*command(place, tmp_path / "one", accumulate=4))
    two = run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command(place, tmp_path / "two", accumulate=2))
    for stage in ("align", "tune"):
        one, other = rows(tmp_path / "one", stage), rows(tmp_path / "two", stage)
        for key in ("step", "tokens", "examples", "kept", "skipped"):
            assert [row[key] for row in one] == [row[key] for row in other]
        for key in ("loss", "grad_norm", "delta"):
            assert [row[key] for row in one] == pytest.approx([row[key] for row in other], rel=1e-3)
        for part in ("compressor", "projector", "adapter")[: 3 if stage == "tune" else 2]:
            a, b = load_file(tmp_path / "one" / stage / part / "model.safetensors"), load_file(tmp_path / "two" / stage / part / "model.safetensors")
            for name in a:
                torch.testing.assert_close(a[name], b[name], atol=2e-4, rtol=1e-3)
    assert two.stderr.count("wrote") == 2  # one of the two speaks


@pytest.mark.slow
def test_the_command_from_data_to_an_answer(place, tmp_path):
    done = run(*command(place, tmp_path / "work", "--output", str(tmp_path / "mine")))
    assert done.stdout == "" and "align 4/4" in done.stderr and "tune 3/3" in done.stderr
    clip = str(place / "media" / "clips" / "green.mp4")
    asked = run("-m", "mambamia_cli", "ask", clip, "What colour?", "--model", str(tmp_path / "mine"), "--json", "--device", "cpu", "--choices", "green,red")
    assert json.loads(asked.stdout)["answer"] in ("green", "red")
    again = run(*command(place, tmp_path / "work", "--output", str(tmp_path / "mine")))
    assert "align 4/4" not in again.stderr  # what is done stays done
    assert run("-m", "mambamia_cli", "train", "--plot", str(tmp_path / "work")).stdout.count("metrics.png") == 2


RECIPE_STAGE = """
import sys
sys.path[:0] = [{tests!r}, {training!r}]
import numpy as np
import mambamia_cli.training.checkpoint as checkpoint
checkpoint.EVERY_SECONDS = 0.2
from pathlib import Path
import dataclasses
import test_training_stages as stages
from mambamia_cli.training import align, features
rng = np.random.default_rng(0)
names = rng.integers(-1, stages.WORDS, (64, 1)).repeat(8, 1)
patches = rng.normal(size=(64, 8, 4, 8)).astype(np.float16)
no = np.zeros((64, 8), bool)
data = features.FeatureSet([patches], np.stack([names, np.full_like(names, -1)], -1), np.full((64, 8, 2), -1), no, no, no)
model = stages.aligner()
settings = dataclasses.replace(stages.SMALL, steps=300)
align.train(model, None, align.Material(data, None, {{}}), Path(sys.argv[1]), settings, 1, lambda text: None)
model.compressor.save_pretrained(Path(sys.argv[1]) / "compressor")
"""


@pytest.mark.slow
def test_a_recipe_stage_killed_goes_on_too(tmp_path):
    """The embedded model's stages share the checkpoint: SIGKILL twice, and the weights are those of a run left alone."""
    tests = Path(__file__).parents[1]
    script = RECIPE_STAGE.format(tests=str(tests), training=str(tests / "training"))
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", script, str(killed)], env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
        checkpoint = killed / "checkpoint.pt"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(0.1)  # into the steps that will be lost
        assert process.poll() is None, "it was done before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    for folder in (killed, straight):
        subprocess.run([sys.executable, "-c", script, str(folder)], env=environment(), cwd=ROOT, check=True, timeout=900)
    steps = [row["step"] for row in rows(tmp_path, "killed")]
    assert steps == [row["step"] for row in rows(tmp_path, "straight")] and steps[-1] == 300
    assert [r["loss"] for r in rows(tmp_path, "killed")] == [r["loss"] for r in rows(tmp_path, "straight")]
    assert same(killed / "compressor", straight / "compressor")
