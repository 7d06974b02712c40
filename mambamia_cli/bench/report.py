"""All that `mambamia bench` measures, as one report: rows of (what, figure, unit) by section, and the conditions."""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from mambamia_cli import __version__
from mambamia_cli.records import peak_memory_mib

Progress = Callable[[str, float, float | None], None]
CLIP_SECONDS, CLIP_SIZE, CLIP_FPS = 60, (720, 1280), 25
ENCODE_FRAMES, ENCODE_REPEATS = 32, 4


def measure(what: Sequence[str], options: Any, *, video: str | None, progress: Progress) -> dict[str, Any]:
    """Run the benches named in `what` ("decode", "encode", "scan", "language", "gpu").

    Returns {"conditions": {...}, "sections": {name: {"rows": [{"what", "value", "unit"}]}}, "memory_mib": {...}};
    the scan's section is that of bench.scan.bench_scan, the language model's rows are bench.language.LanguageSpeed. Raises MambamiaError when what it needs is missing.
    """
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    sections: dict[str, Any] = {}
    conditions: dict[str, Any] = {"mambamia": __version__, "torch": torch.__version__, "machine": platform.machine(),
                  "cores": os.cpu_count(), "threads": torch.get_num_threads()}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mambamia-") as folder:
        clip = None
        for at, name in enumerate(what):
            progress(f"measuring {name}", at, len(what))
            if name in ("decode", "encode", "gpu") and clip is None:
                clip = Path(video) if video else write_clip(Path(folder) / "clip.mp4")
                conditions["video"] = describe(clip) if video else f"made: {CLIP_SECONDS} s of {describe(clip)}"
            sections[name] = _BENCHES[name](options, clip)
    return {"conditions": conditions, "sections": sections, "memory_mib": peak_memory_mib()}


def to_text(report: dict[str, Any]) -> str:
    """The report as tables."""
    from mambamia_cli.bench import language
    from mambamia_cli.bench.scan import format_scan

    lines = [", ".join(f"{name} {value}" for name, value in report["conditions"].items())]
    for name, section in report["sections"].items():
        if name == "scan":
            lines += ["", format_scan(section)]
        elif name == "gpu":
            from mambamia_cli.bench import gpu

            lines += ["", gpu.to_text(section)]
        elif name == "language":
            lines += ["", language.to_text([language.LanguageSpeed(**row) for row in section["rows"]])]
        else:
            lines += ["", f"{name}:"] + [f"  {row['what']:<52}{row['value']:>10.4g} {row['unit']}" for row in section["rows"]]
    return "\n".join([*lines, "", *(f"{name} {value} MiB" for name, value in report["memory_mib"].items())])


def _decode(_options: Any, clip: Path) -> dict[str, Any]:
    from mambamia_cli.bench.decode import decode_speed

    rows = []
    for fps, label in ((None, "every frame"), (4, "4 frames a second sampled"), (1, "1 frame a second sampled")):
        speed = decode_speed(clip, fps=fps)
        rows.append(row(f"decode, {label}: frames of video gone through", speed.frames_per_second, "frames/s"))
    return {"rows": rows}


def _encode(options: Any, clip: Path) -> dict[str, Any]:
    import torch

    from mambamia_cli.pipeline import Models
    from mambamia_cli.pipeline.index import watch
    from mambamia_cli.video import SampleSpec, open_frames

    models = Models(options.model, device=options.device, threads=options.threads)
    encoder, compressor = models.encoder, models.compressor
    pixels = torch.randint(0, 256, (ENCODE_FRAMES, 3, *encoder.input_size), dtype=torch.uint8)  # (m, 3, H, W)
    with torch.inference_mode():
        patches = encoder.encode(pixels)  # (m, n, d_vision)
        encode_s = fastest(lambda: encoder.encode(pixels))
        compress_s = fastest(lambda: compressor(patches[None]))
        spec, began, frames = SampleSpec(fps=Fraction(4), size=tuple(encoder.input_size)), time.perf_counter(), 0
        with open_frames(clip, spec) as stream:
            for chunk in stream:
                frames += len(encoder.encode(torch.from_numpy(chunk.frames).permute(0, 3, 1, 2)))
        both_s = time.perf_counter() - began
        began = time.perf_counter()
        index = watch(clip, spec, models, keep_anchors=False, progress=lambda stage, done, total: None)
        whole_s = time.perf_counter() - began
    length = index.range[1] - index.range[0]
    return {"rows": [
        row(f"encode alone ({encoder.name})", ENCODE_FRAMES / encode_s, "frames/s"),
        row("compress alone", ENCODE_FRAMES / compress_s, "frames/s"),
        row("decode and encode, 4 frames a second sampled", frames / both_s, "frames/s"),
        row("decode, encode and compress (whole `scenes`)", len(index.times) / whole_s, "frames/s"),
        row("decode, encode and compress (whole `scenes`)", length / whole_s, "x real time"),
    ]}  # fmt: skip


def _scan(_options: Any, _clip: Any) -> dict[str, Any]:
    from mambamia_cli.bench.scan import bench_scan

    return bench_scan()


def _language(options: Any, _clip: Any) -> dict[str, Any]:
    """Every form of the weights beside transformers' own generate, or with --quant only the form asked for."""
    from mambamia_cli.bench import language
    from mambamia_cli.models.folder import read_folder

    variants = language.VARIANTS
    if options.quant != "auto":
        variants = (*(variant for variant in variants if variant[1] == options.quant), language.YARDSTICK)
    rows = language.language_speed(read_folder(options.model).language_model, variants)
    return {"rows": language.to_dict(rows)}


def _gpu(options: Any, clip: Path) -> dict[str, Any]:
    from mambamia_cli.bench.gpu import bench_gpu

    return bench_gpu(options, clip)


_BENCHES = {"decode": _decode, "encode": _encode, "scan": _scan, "language": _language, "gpu": _gpu}


def row(what: str, value: float, unit: str) -> dict[str, Any]:
    return {"what": what, "value": round(value, 4), "unit": unit}


def fastest(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of a few runs, after one that warms up."""
    work()
    seconds = []
    for _ in range(ENCODE_REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def describe(path: Path) -> str:
    from mambamia_cli.video.probe import probe

    info = probe(path)
    return f"{info.codec} {info.width}x{info.height} at {float(info.fps or 0):.4g} frames/s"


def write_clip(path: Path) -> Path:
    """A clip to decode: a moving texture with a cut every five seconds, H.264 with B-frames, as films are stored."""
    import av
    import numpy as np

    height, width = CLIP_SIZE
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 255, (height // 16, width // 16 + 40, 3), np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(12)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=CLIP_FPS, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(CLIP_SECONDS * CLIP_FPS):
            scene, shift = scenes[number // (5 * CLIP_FPS) % len(scenes)], number % (5 * CLIP_FPS) * 4
            picture = np.ascontiguousarray(scene[:height, shift : shift + width])  # (H, W, 3)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path
