"""What tells one version of a model from the next."""

import hashlib
from pathlib import Path

from mambamia_cli.models import hub
from mambamia_cli.models.cache import sha256_of
from mambamia_cli.models.kinds import kind_of

LARGE = 64 << 20  # bytes from which on a file's size and time stand for what it holds: hashing gigabytes takes too long
_NO_PART = {".md", ".png"}


def model_version(name: str) -> str:
    """A short hash of the model's files, or the revision of a hub id. Nothing is loaded.

    Raises:
        ModelError: there is no such model.
    """
    folder = kind_of(name).path
    if folder is None:
        return hub.config_file(name).parent.name
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix not in _NO_PART):
        digest.update(f"{path.relative_to(folder)} {_fact(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _fact(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}" if facts.st_size >= LARGE else sha256_of(path)
