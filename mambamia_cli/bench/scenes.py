"""`mambamia bench scenes`: how well and how fast scenes are marked, beside other tools, on videos with known boundaries.

The videos are made from a seed (bench.scene_set), of material that training never sees: a seed nobody has looked at is a
fair judge. Every tool runs as its own command; this process loads no model, so that the children's memory is theirs.
"""

import functools
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mambamia_cli import __version__
from mambamia_cli.bench import scene_set
from mambamia_cli.bench.scene_score import agree, shared
from mambamia_cli.bench.scene_tools import PEERS, Run, Tool, decode_alone, mambamia, measured, own_peak_mib, rate_of
from mambamia_cli.errors import InputError

REACH_SECONDS, REACH_FRAMES = 0.5, 2
"""How near a marker must be to a boundary to hit it: one measure a table."""

TIMED_RUNS = 3

Progress = Callable[[str, float, float | None], None]


def score(work: Path, *, seed: int, peers: bool, extra: Sequence[str] = (), progress: Progress) -> dict[str, Any]:
    """Make the set of `seed` in `work`, where it is not there yet, and run every tool on it.

    Returns {"conditions", "videos": [{"name", "seconds", "boundaries"}], "tools": [{"name", "runs": [{"video", "f1",
    "f1_frames", "missed", "false", ...}], "mean": {...}}]}; the keys of a run that failed are "video" and "error".

    Raises:
        InputError: the videos cannot be made; the hint says what is missing.
    """
    videos = _made(work, seed, progress)
    tools = [mambamia(extra), *(PEERS if peers else ())]
    rows: dict[str, list[dict[str, Any]]] = {tool.name: [] for tool in tools}
    for at, video in enumerate(videos):
        for k, tool in enumerate(tools):
            progress(f"{tool.name} on {video.name}", at * len(tools) + k, len(videos) * len(tools))
            rows[tool.name].append(_judged(video, tool.run(video.path, video.fps)))
    lengths = [_seconds_of(video.path) for video in videos]
    return {
        "conditions": {**_conditions(), "seed": seed},
        "videos": [{"name": v.name, "seconds": s, "boundaries": len(v.boundaries)} for v, s in zip(videos, lengths, strict=True)],
        "tools": [{"name": tool.label, "runs": rows[tool.name], "mean": _mean(rows[tool.name], sum(lengths))} for tool in tools],
    }


def race(video: Path, *, peers: bool, extra: Sequence[str] = (), runs: int = TIMED_RUNS, progress: Progress) -> dict[str, Any]:
    """Time every tool's whole command on one video, taking turns, beside decoding alone. Medians count.

    Where the video's truth is not known, what the peers agree on stands for it: with peers, each tool has "f1" and "f1_frames"
    against those markers, which are "agreed".

    Returns {"conditions", "video", "agreed", "tools": [{"name", "seconds", "cpu_s", "to_decoding", "peak_mib", "markers"}]} or with
    "error".
    """
    fps, tools = rate_of(video), [mambamia(extra), *(PEERS if peers else ())]
    works: dict[str, Callable[[], Run]] = {"decoding alone (ffmpeg)": lambda: decode_alone(video)}
    works |= {tool.label: _runner(tool, video, fps) for tool in tools}
    taken: dict[str, list[Run]] = {name: [] for name in works}
    for turn in range(runs):
        for k, (name, work) in enumerate(works.items()):
            progress(f"timing {name}", turn * len(works) + k, runs * len(works))
            if all(run.error is None for run in taken[name]):  # what cannot run is not tried again
                taken[name].append(work())
    first = next(iter(taken.values()))
    base = None if first[-1].error else statistics.median(run.seconds for run in first)
    last = {name: taken[name][-1] for name in works}
    agreed = _agreed([last[tool.label] for tool in tools[1:]])
    marked = {tool.label for tool in tools}
    return {"conditions": {**_conditions(), "runs": runs, "load": _load()}, "video": {"name": video.name, "seconds": _seconds_of(video)},
            "agreed": agreed, "tools": [_timed(name, taken[name], base) | _against(last[name] if name in marked else None, agreed, fps) for name in works]}  # fmt: skip


def _agreed(peers: Sequence[Run]) -> list[float] | None:
    """Markers that all peers have; None where fewer than two of them could run."""
    found = [run.markers for run in peers if run.markers is not None]
    return None if len(found) < 2 else functools.reduce(lambda a, b: shared(a, b, REACH_SECONDS), found[1:], list(found[0]))


def _against(run: Run | None, agreed: list[float] | None, fps: float) -> dict[str, Any]:
    if run is None or run.markers is None:
        return {}
    own = {"markers": [round(t, 3) for t in run.markers]}
    if agreed is None:
        return own
    near, exact = (agree(run.markers, [(t, t) for t in agreed], reach).f1 for reach in (REACH_SECONDS, REACH_FRAMES / fps))
    return own | {"f1": round(near, 4), "f1_frames": round(exact, 4)}


def _runner(tool: Tool, video: Path, fps: float) -> Callable[[], Run]:
    return lambda: tool.run(video, fps)


def _timed(name: str, runs: list[Run], base: float | None) -> dict[str, Any]:
    if runs[-1].error:
        return {"name": name, "error": runs[-1].error}
    seconds = statistics.median(run.seconds for run in runs)
    return {"name": name, "seconds": round(seconds, 2), "cpu_s": round(statistics.median(run.cpu_s for run in runs), 2),
            "to_decoding": None if base is None else round(seconds / base, 2), "peak_mib": round(max(run.peak_mib for run in runs), 1),
            "all_seconds": [round(run.seconds, 2) for run in runs]}  # fmt: skip


def _made(work: Path, seed: int, progress: Progress) -> list[scene_set.Marked]:
    """The videos, made by a process of its own: it holds a gigabyte of photographs."""
    folder = work / f"scenes-{seed}"
    if not scene_set.is_made(folder):
        progress(f"making the videos of seed {seed}", 0, None)
        ran = measured([sys.executable, "-m", "mambamia_cli.bench.scene_set", str(work), str(folder), str(seed)])
        if ran.error is not None or not scene_set.is_made(folder):
            raise InputError(f"the videos to measure on could not be made ({ran.error})", "pip install 'mambamia-cli[train]', and see that apt-get can download")
    return [scene_set.read(folder / f"{name}.mp4") for name in scene_set.NAMES]


def _judged(video: scene_set.Marked, run: Run) -> dict[str, Any]:
    if run.error is not None:
        return {"video": video.name, "error": run.error}
    near = agree(run.markers, video.boundaries, REACH_SECONDS)
    exact = agree(run.markers, video.boundaries, REACH_FRAMES / video.fps)
    return {"video": video.name, "f1": round(near.f1, 4), "f1_frames": round(exact.f1, 4), "hits": near.hits, "found": near.found,
            "wanted": near.wanted, "markers": [round(t, 3) for t in run.markers],
            **{name: round(value, 2) for name, value in asdict(run).items() if name in ("seconds", "cpu_s", "peak_mib")}}  # fmt: skip


def _mean(rows: list[dict[str, Any]], length: float) -> dict[str, Any] | None:
    """Over the videos; None unless all of them could be run."""
    if any("error" in row for row in rows):
        return None
    seconds = sum(row["seconds"] for row in rows)
    return {"f1": round(statistics.mean(row["f1"] for row in rows), 4), "f1_frames": round(statistics.mean(row["f1_frames"] for row in rows), 4),
            "seconds": round(seconds, 2), "real_time": round(length / seconds, 2), "peak_mib": max(row["peak_mib"] for row in rows)}  # fmt: skip


def _conditions() -> dict[str, Any]:
    return {"mambamia": __version__, "machine": platform.machine(), "cores": os.cpu_count(), "parent_mib": round(own_peak_mib(), 1)}


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _seconds_of(path: Path) -> float:
    from mambamia_cli.video.probe import probe

    return round(float(probe(path).duration or 0), 2)


def to_text(report: dict[str, Any]) -> str:
    """Either report as tables for the terminal."""
    lines = [", ".join(f"{name} {value}" for name, value in report["conditions"].items()), ""]
    return "\n".join(lines + (_race_table(report) if "video" in report else _score_table(report)))


def _score_table(report: dict[str, Any]) -> list[str]:
    wide = max(len(tool["name"]) for tool in report["tools"]) + 2
    names = [video["name"] for video in report["videos"]]
    lines = [f"{'boundaries':<{wide}}" + "".join(f"{video['boundaries']:>11}" for video in report["videos"])]
    for key, title in (("f1", f"F1 within {REACH_SECONDS} s"), ("f1_frames", f"F1 within {REACH_FRAMES} frames")):
        lines += ["", f"{title:<{wide}}" + "".join(f"{name:>11}" for name in names) + f"{'mean':>9}"]
        for tool in report["tools"]:
            cells = "".join(f"{run[key]:>11.3f}" if key in run else f"{'-':>11}" for run in tool["runs"])
            lines.append(f"{tool['name']:<{wide}}{cells}" + (f"{tool['mean'][key]:>9.3f}" if tool["mean"] else f"{'-':>9}"))
    lines += ["", f"{'whole commands':<{wide}}{'seconds':>11}{'x real time':>13}{'peak MiB':>10}"]
    for tool in report["tools"]:
        mean, failed = tool["mean"], next((run["error"] for run in tool["runs"] if "error" in run), None)
        lines.append(f"{tool['name']:<{wide}}" + (f"{mean['seconds']:>11.1f}{mean['real_time']:>13.1f}{mean['peak_mib']:>10.0f}" if mean else f"  {failed}"))
    return lines


def _race_table(report: dict[str, Any]) -> list[str]:
    wide = max(len(tool["name"]) for tool in report["tools"]) + 2
    video, agreed = report["video"], report["agreed"]
    lines = [f"{video['name']}, {video['seconds']:.0f} s; medians of {report['conditions']['runs']} runs that took turns", "",
             f"{'whole commands':<{wide}}{'seconds':>9}{'CPU s':>9}{'to decoding':>13}{'peak MiB':>10}" + (f"{'F1':>8}" if agreed is not None else "")]  # fmt: skip
    for tool in report["tools"]:
        if "error" in tool:
            lines.append(f"{tool['name']:<{wide}}  {tool['error']}")
            continue
        ratio = "-" if tool["to_decoding"] is None else f"{tool['to_decoding']:.2f} x"
        lines.append(f"{tool['name']:<{wide}}{tool['seconds']:>9.1f}{tool['cpu_s']:>9.1f}{ratio:>13}{tool['peak_mib']:>10.0f}"
                     + (f"{tool['f1']:>8.3f}" if "f1" in tool else ""))  # fmt: skip
    return lines + ([] if agreed is None else ["", f"F1 within {REACH_SECONDS} s against the {len(agreed)} markers on which the peers agree"])
