"""The cache folder: checksums, and files and folders that appear whole or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mambamia_cli.errors import ModelError

MANIFEST = "manifest.json"
READ_BLOCK = 1 << 20  # bytes read at once when a file is hashed


def cache_dir() -> Path:
    """$MAMBAMIA_CACHE, else $XDG_CACHE_HOME/mambamia, else ~/.cache/mambamia. It is not created here."""
    if own := os.environ.get("MAMBAMIA_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "mambamia"
    return Path.home() / ".cache" / "mambamia"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex. Raises ModelError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(READ_BLOCK):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})", "check the path and its permissions") from error
    return digest.hexdigest()


def fsync_path(path: Path) -> None:
    """Force a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def building(destination: Path, facts: dict) -> Iterator[Path]:
    """Give an empty folder beside `destination`; on success list its files in a manifest and rename it into place.

    A crash, Ctrl-C or a full disk leaves `destination` as it was. When another process was quicker, its folder stays:
    both hold the same thing. `facts` goes into the manifest beside the sizes and SHA-256 of the files.

    Raises: ModelError when the cache folder cannot be written.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    except OSError as error:
        raise _cannot_write(destination.parent, error) from error
    try:
        yield temporary
        files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=1) + "\n")
        for path in temporary.iterdir():
            path.chmod(0o644)  # safetensors writes files that only their owner can read
            fsync_path(path)
        temporary.chmod(0o755)
        _move_into_place(temporary, destination)
    except OSError as error:
        raise _cannot_write(destination.parent, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into_place(temporary: Path, destination: Path) -> None:
    try:
        temporary.rename(destination)
    except OSError:
        if complete(destination) is None:
            return
        # What lies there is damaged: a folder cannot be renamed over a full one, so it goes aside first.
        aside = temporary.with_name(temporary.name + "-old")
        destination.rename(aside)
        temporary.rename(destination)
        shutil.rmtree(aside, ignore_errors=True)
    fsync_path(destination.parent)


def complete(folder: Path, *, hashes: bool = False) -> str | None:
    """None when every file of the manifest is there at its size (and, with `hashes`, its SHA-256); else what is wrong."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = dict(manifest["files"])
        for name, fact in files.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != fact["bytes"]:
                return f"{name} has {path.stat().st_size} bytes instead of {fact['bytes']}"
            if hashes and sha256_of(path) != fact["sha256"]:
                return f"{name} does not match its checksum"
    except FileNotFoundError:
        return "nothing is there"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {MANIFEST} is damaged ({error})"
    return None


def _cannot_write(folder: Path, error: OSError) -> ModelError:
    return ModelError(
        f"the cache folder {folder} cannot be written ({error.strerror})",
        "free some space or point MAMBAMIA_CACHE at a folder with about 1 GB free",
    )
