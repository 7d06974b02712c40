"""What `mambamia doctor` finds: the machine, the packages, and what a run would use and why."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mambamia_cli import __version__
from mambamia_cli.errors import MambamiaError

FASTER = {
    "mamba-ssm": "the fused scan on a GPU",
    "causal-conv1d": "the fused convolution on a GPU",
}
"""Packages that nothing needs and that make something faster."""


def diagnose(model: str, device: str, quant: str) -> dict[str, Any]:
    """Everything `doctor` shows. `ok` is false when a required package or the model is missing."""
    packages = {name: version(name) for name in required()}
    machine = {
        "system": platform.platform(), "python": platform.python_version(), "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), "memory_gib": memory_gib(),
    }  # fmt: skip
    findings: dict[str, Any] = {
        "mambamia": __version__,
        "machine": machine,
        "packages": packages,
        "optional": {name: version(name) for name in FASTER},
        "uses": {},
        "problems": [f"the package {name} is not installed: pip install {name}" for name, found in packages.items() if not found],
    }
    if not findings["problems"]:
        _uses(findings, model, device, quant)
    findings["ok"] = not findings["problems"]
    return findings


def _uses(findings: dict[str, Any], model: str, device: str, quant: str) -> None:
    """What a run would use, each with its reason; what stands in its way goes to the problems."""
    from mambamia_cli.models import cache_dir

    uses, problems = findings["uses"], findings["problems"]
    checks = {
        "device": lambda: _device(device),
        "libav": _libav,
        "encoder": lambda: _encoder(uses.get("device", "cpu").split(" ")[0]),
        "scan": lambda: _scan(uses.get("device", "cpu").split(" ")[0]),
        "quant": lambda: _quant(quant, uses.get("device", "cpu").split(" ")[0]),
        "model": lambda: _model(model),
        "cache": lambda: _cache(cache_dir()),
    }
    for name, check in checks.items():
        try:
            uses[name] = check()
        except MambamiaError as error:
            problems.append(str(error))


def _device(wanted: str) -> str:
    import torch

    from mambamia_cli.pipeline.engine import pick_device

    chosen = pick_device(wanted)
    if chosen.startswith("cuda"):
        index = torch.device(chosen).index or 0
        facts = torch.cuda.get_device_properties(index)
        return f"{chosen} ({facts.name}, {facts.total_memory / 2**30:.0f} GiB)"
    if chosen.startswith("xpu"):
        return f"{chosen} ({torch.xpu.get_device_name(chosen)})"
    if chosen == "mps":
        return "mps (Apple GPU)"
    why = "asked for" if wanted == "cpu" else "torch sees no GPU"
    return f"cpu ({why}; {torch.get_num_threads()} threads)"


def _libav() -> str:
    import av

    return ", ".join(f"{name} {'.'.join(map(str, numbers))}" for name, numbers in sorted(av.library_versions.items()) if name in ("libavcodec", "libavformat"))


def _scan(device: str) -> str:
    from mambamia_cli.compressor.kernels import kernels_for

    scan = kernels_for(device.partition(":")[0]).scan
    return "mamba-ssm's fused kernel" if scan.function is not None else f"plain torch ({scan.reason})"


def _encoder(device: str) -> str:
    if device != "cpu":
        return f"torch on {device}"
    found = version("onnxruntime")
    if not found:
        return "torch, slower than ONNX Runtime: pip install onnx onnxruntime"
    from mambamia_cli.vision.backends import int8_is_exact

    scenes = "for scenes in 8-bit integers" if int8_is_exact() else "no 8-bit integers for scenes: this CPU rounds their sums"
    return f"ONNX Runtime {found}, the fastest on a CPU; {scenes}"


def _quant(wanted: str, device: str) -> str:
    if wanted != "auto":
        return f"{wanted} (asked for)"
    if device == "cpu":
        return "4 or 8 bits, whichever this CPU multiplies fastest; float32 or bfloat16 for what the CPU decoder does not know"
    return "nf4 (bitsandbytes)" if version("bitsandbytes") else "bf16 (bitsandbytes is not installed)"


def _model(name: str) -> str:
    from mambamia_cli.models import resolve
    from mambamia_cli.models.folder import read_folder

    folder = read_folder(name)
    for part in (folder.vision, folder.language_model):
        resolve(part, download=False)
    return f"{folder.name} in {folder.path}: {folder.vision} -> {folder.language_model}"


def _cache(folder: Path) -> str:
    there = folder
    while not there.exists():
        there = there.parent
    return f"{folder} ({shutil.disk_usage(there).free / 2**30:.0f} GiB free)"


def required() -> list[str]:
    """Names of the packages that the installation declares as needed."""
    try:
        lines = importlib.metadata.requires("mambamia-cli") or []
    except importlib.metadata.PackageNotFoundError:
        return ["torch", "transformers", "safetensors", "av", "numpy"]  # run from a checkout without being installed
    return [re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or sys.platform == "win32":
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def to_text(findings: dict[str, Any]) -> str:
    """The findings for people."""
    machine = findings["machine"]
    lines = [f"mambamia {findings['mambamia']}, Python {machine['python']}, {machine['system']}",
             f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB of memory", ""]  # fmt: skip
    lines += [f"{name:<34} {found or 'MISSING'}" for name, found in findings["packages"].items()]
    lines += [f"{name:<34} {found or f'not installed; gives {FASTER[name]}'}" for name, found in findings["optional"].items()]
    lines += ["", *(f"{name:<10} {what}" for name, what in findings["uses"].items())]
    lines += ["", *(f"problem: {text}" for text in findings["problems"])] if findings["problems"] else ["", "All is there."]
    return "\n".join(lines)
