"""The embedded encoder in everything that could run it, on the same frames, in one run: why the tool runs what it runs.

The yardstick is the folded network in plain torch, channels last. A rival whose features differ by more than rounding
is timed too, but is no choice for answers: its compressor would see other numbers than it was trained on. (Scenes alone are
marked from int8 features, where ONNX Runtime has them exact: a curve's peaks stay where they are.)
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mambamia_cli.vision import backends
from mambamia_cli.vision.backends import PIXEL_MEAN, PIXEL_STD, OnnxBackend, TorchBackend, normalise
from mambamia_cli.vision.efficientnet import INPUT_SIZE
from mambamia_cli.vision.embedded import load_network

Run = Callable[[Tensor], Tensor]  # (m, 3, H, W) uint8 -> patches (m, n, d_vision)
YARDSTICK = "torch"
EQUAL = 1e-4  # largest difference of a feature that still counts as rounding


def bench_encode(
    *, threads: int | None = None, batch: int = 16, seconds: float = 10.0, compiled: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Time every backend, taking turns, for about `seconds` in all; the fastest turn of each counts.

    `compiled` adds torch.compile, which needs a C++ compiler and a minute. Returns {"batch", "threads", "torch", "rows":
    [{"name", "load_s", "frames_per_s", "speedup", "difference", "equal"}], "left_out": {name: reason}}: speedup over
    plain torch, difference the largest absolute one of a feature from plain torch's, equal whether that is rounding.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        generator = torch.Generator().manual_seed(seed)
        size = (batch, 3, INPUT_SIZE, INPUT_SIZE)
        frames = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)  # (m, 3, H, W)
        runs, load_s, left_out = _backends(torch.get_num_threads(), frames, compiled)
        expected = runs[YARDSTICK](frames)  # (m, n, d_vision)
        difference = {name: (run(frames) - expected).abs().max().item() for name, run in runs.items()}
        fastest = _race(runs, frames, seconds)
        rows = [
            {
                "name": name,
                "load_s": load_s[name],
                "frames_per_s": batch / fastest[name],
                "speedup": fastest[YARDSTICK] / fastest[name],
                "difference": difference[name],
                "equal": difference[name] <= EQUAL,
            }
            for name in runs
        ]
        return {"batch": batch, "threads": torch.get_num_threads(), "torch": torch.__version__, "rows": rows, "left_out": left_out}
    finally:
        torch.set_num_threads(before)


def format_encode(result: dict[str, Any]) -> str:
    """The result of `bench_encode` as a table for the terminal."""
    lines = [f"EfficientNet-Lite0 at {INPUT_SIZE} px, {result['batch']} frames a pass, {result['threads']} threads, torch {result['torch']}", ""]
    lines.append(f"{'backend':<28}{'load':>9}{'frames/s':>11}{'to torch':>11}{'difference':>13}  same answers")
    for row in result["rows"]:
        lines.append(
            f"{row['name']:<28}{row['load_s']:>7.2f} s{row['frames_per_s']:>11.1f}{row['speedup']:>9.2f} x"
            f"{row['difference']:>13.1e}  {'yes' if row['equal'] else 'no'}"
        )
    lines += [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines)


def _race(runs: dict[str, Run], frames: Tensor, seconds: float) -> dict[str, float]:
    """Seconds of each backend's fastest pass. What else the machine does only ever makes a pass slower, and taking
    turns lets it disturb all alike."""
    fastest = dict.fromkeys(runs, float("inf"))
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 2 or time.perf_counter() < end:
        for name, run in runs.items():
            began = time.perf_counter()
            run(frames)
            fastest[name] = min(fastest[name], time.perf_counter() - began)
        rounds += 1
    return fastest


def _backends(threads: int, frames: Tensor, compiled: bool) -> tuple[dict[str, Run], dict[str, float], dict[str, str]]:
    """What can run here by name, the seconds each took to load and warm up, and why the others are left out."""
    makers: dict[str, Callable[[], Run]] = {
        YARDSTICK: lambda: TorchBackend(load_network()).run,
        "onnxruntime": lambda: OnnxBackend(load_network(), threads=threads).run,
        "onnxruntime int8": lambda: _int8(threads),
        "onnxruntime, layers shared": lambda: _layers_shared(threads),
        "torch.jit, frozen": lambda: _frozen(frames),
        "torch bf16": _bf16,
        "openvino": lambda: _openvino(threads, "f32"),
        "openvino bf16": lambda: _openvino(threads, "bf16"),
    }
    runs: dict[str, Run] = {}
    load_s: dict[str, float] = {}
    left_out: dict[str, str] = {}
    if compiled:
        makers["torch.compile"] = _compiled
    else:
        left_out["torch.compile"] = "not asked for: it needs a C++ compiler and a minute"
    for name, make in makers.items():
        began = time.perf_counter()
        try:
            run = make()
            run(frames)
        except (ImportError, RuntimeError) as error:  # a rival that cannot run here is a line with its reason
            left_out[name] = (str(error).strip().splitlines() or [type(error).__name__])[0]
            continue
        runs[name], load_s[name] = run, time.perf_counter() - began
    return runs, load_s, left_out


def _network() -> torch.nn.Module:
    return load_network().to(memory_format=torch.channels_last)


def _int8(threads: int) -> Run:
    if not backends.int8_is_exact():
        raise RuntimeError("this CPU has no exact 8-bit products")
    return OnnxBackend(load_network(), threads=threads, int8=True).run


def _layers_shared(threads: int) -> Run:
    """ONNX Runtime's own way with threads: every layer is split between them."""
    from mambamia_cli.vision.onnx_graph import build

    shared = backends.session(build(load_network(), size=INPUT_SIZE, mean=PIXEL_MEAN, std=PIXEL_STD), threads=threads)
    return lambda frames: torch.from_numpy(shared.run(["patches"], {"frames": frames.numpy()})[0])


@torch.inference_mode()
def _frozen(frames: Tensor) -> Run:
    """Traced, weights prepacked for oneDNN. The trace holds for this batch size only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remark that padding becomes a constant is what is wanted
        traced = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(_network(), normalise(frames))))
    for _ in range(2):  # it profiles, then specialises
        traced(normalise(frames))
    return torch.inference_mode()(lambda frames: traced(normalise(frames)))


def _bf16() -> Run:
    network = _network()

    @torch.inference_mode()
    def run(frames: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(normalise(frames)).float()

    return run


def _compiled() -> Run:
    network = torch.compile(_network())
    return torch.inference_mode()(lambda frames: network(normalise(frames)))


def _openvino(threads: int, precision: str) -> Run:
    import openvino

    from mambamia_cli.vision.onnx_graph import build

    core = openvino.Core()
    graph = core.read_model(build(load_network(), size=INPUT_SIZE, mean=PIXEL_MEAN, std=PIXEL_STD))
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(graph, "CPU", settings)
    return lambda frames: torch.from_numpy(compiled([frames.numpy()])[0].copy())
