"""Against mamba-ssm itself, installed without CUDA into a scratch folder: opt-in, needs a network and some minutes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.oracle

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mamba-ssm")
    # Its __init__ is not run (see oracle_probe.py), so of its dependencies only triton and einops are wanted.
    build = {**os.environ}
    for package in ("MAMBA", "CAUSAL_CONV1D"):
        build |= {f"{package}_FORCE_BUILD": "TRUE", f"{package}_SKIP_CUDA_BUILD": "TRUE"}
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    for arguments in (["--no-build-isolation", "mamba-ssm"], ["--no-build-isolation", "causal-conv1d"], ["triton", "einops"]):
        done = subprocess.run(
            [*install, *arguments], env=build, capture_output=True, text=True, timeout=900, check=False
        )
        if done.returncode:
            pytest.skip(f"cannot install {arguments[-1]} here: {done.stderr.strip().splitlines()[-1]}")
    return folder


def probe(scratch, mode, **environment):
    path = os.pathsep.join([str(ROOT), str(scratch)])
    done = subprocess.run(
        [sys.executable, str(HERE / "oracle_probe.py"), mode],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(results, indent=1))
    return results


def test_layout_against_mamba_ssms_reference(scratch):
    """Outputs and final states, both directions, over several chunks."""
    results = probe(scratch, "reference")
    assert len(results) == 6
    assert max(max(pair) for pair in results.values()) < 1e-4


def test_triton_kernels_in_the_interpreter(scratch):
    """Outputs and final states (first), gradients of every input and of the initial state (second), relative to the
    largest value; lengths that are and are not whole chunks."""
    results = probe(scratch, "kernels", TRITON_INTERPRET="1")
    assert len(results) == 8
    assert max(forward for forward, _ in results.values()) < 1e-4
    assert max(gradient for _, gradient in results.values()) < 1e-3


def test_triton_kernels_as_the_mixer_calls_them(scratch):
    """bf16 beside float32 decays and states, views of one wide row, states handed from piece to piece, both directions."""
    results = probe(scratch, "layouts", TRITON_INTERPRET="1")
    assert len(results) == 8
    for name, pair in results.items():
        assert max(pair) < (1e-4 if name.startswith("float32") else 2e-2), name


def test_convolution_against_causal_conv1ds_reference(scratch):
    """Outputs and the state handed on: of plain torch (first), of the reference with its own initial and final states (second)."""
    results = probe(scratch, "conv")
    assert len(results) == 8
    for name, pair in results.items():
        assert max(pair) < (1e-5 if name.startswith("float32") else 2e-2), name
