"""Where the results of `mambamia scenes` go: formats to stdout or files, a copy with chapters, the pieces of a split.

Everything is placed before anything is decoded, so that a name that is taken twice, or is a video's own, costs no time.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mambamia_cli.cli.console import Console
from mambamia_cli.cli.options import Options
from mambamia_cli.cli.output import UNENCODABLE, Output, whole_file
from mambamia_cli.errors import OutputError, UsageError
from mambamia_cli.records import ScenesRecord, to_json
from mambamia_cli.scenes.formats import FORMATS, check, render

APPENDED = ("text", "jsonl")
"""Formats of which one stream or file can hold several videos."""

_HOLDER = re.compile(r"\{([a-z_]+)\}")
_HOLDERS = ("stem", "ext", "format")


@dataclass(frozen=True)
class Places:
    """Where each result goes. `stream` is the format that goes through the run's one Output, as `options` says; where it is
    None every (source, format) has its file. `copies`: source -> file for --embed-chapters; `split`: folder of the pieces."""

    options: Options
    stream: str | None
    files: dict[tuple[str, str], Path]
    copies: dict[str, Path]
    split: Path | None
    several: bool

    @property
    def writes(self) -> bool:
        """Whether there are files to write, beside what goes through the run's Output."""
        return bool(self.files or self.copies or self.split)

    def print(self, record: ScenesRecord, output: Output, console: Console) -> None:
        """What goes through the run's Output, if anything does."""
        if self.stream is not None:
            output.write(self._text(record, self.stream, console))
            output.finish_record()

    def write(self, record: ScenesRecord, source: str, video: Callable[[], Path], console: Console) -> None:
        """Every file that is wanted of one record. `video` gives the video's own, which only copies and pieces need."""
        for (owner, name), path in self.files.items():
            if owner == source:
                data = self._text(record, name, console).encode("utf-8", UNENCODABLE)
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as file:
                    file.write(data)
        if source in self.copies:
            self._copy(record, self.copies[source], video(), console)
        if self.split is not None:
            self._pieces(record, stem(source), video(), console)

    def _text(self, record: ScenesRecord, name: str, console: Console) -> str:
        if name in ("json", "jsonl"):
            return to_json(record, pretty=name == "json") + "\n"
        if name == "text":
            from mambamia_cli.scenes import table

            to_stdout = self.stream is not None and self.options.output in (None, "-")
            look = table.Look.of(sys.stdout) if to_stdout else table.Look()
            return table.render(record, look) + ("\n\n" if self.several and self.stream else "\n")
        text, doubts = render(record, name)
        for doubt in doubts:
            console.warn(f"{name}: {doubt}")
        return text

    def _copy(self, record: ScenesRecord, target: Path, video: Path, console: Console) -> None:
        from mambamia_cli.scenes.formats.moments import spans
        from mambamia_cli.video.remux import Chapter, copy_with_chapters

        console.progress("copying", 0, None)
        chapters = [Chapter(one.start, one.end, one.title) for one in spans(record)]
        with whole_file(target) as file:
            doubts = copy_with_chapters(video, file, target.suffix.lower(), chapters, stream=self.options.video_track)
        for doubt in doubts:
            console.warn(doubt)

    def _pieces(self, record: ScenesRecord, name: str, video: Path, console: Console) -> None:
        from mambamia_cli.cli.scene_pieces import write_pieces

        assert self.split is not None
        write_pieces(record, name, video, self.split, stream=self.options.video_track, console=console)


def place(
    sources: Sequence[str], options: Options, wanted: str | None, *, embed: str | None = None, split: str | None = None,
    others: Sequence[str] = (),
) -> Places:  # fmt: skip
    """Decide where the results over `sources` go. `wanted` is --format's comma list; `others` are files not to write over.

    Raises:
        UsageError: a format, a pattern or a combination that cannot be. OutputError: a place that cannot be written.
    """
    formats = _formats(wanted, options)
    to_folder = options.output is not None and (options.output.endswith("/") or os.path.isdir(options.output))
    files: dict[tuple[str, str], Path] = {}
    stream = None
    if options.output is not None and options.output != "-" and (to_folder or _is_pattern(options.output)):
        pattern = f"{options.output.rstrip('/') or '/'}/{{stem}}.{{ext}}" if to_folder else options.output
        files = {(source, name): Path(_filled(pattern, source, name)) for source in sources for name in formats}
    else:
        stream = _one(formats, len(sources))
    copies = {} if embed is None else {source: Path(_filled(embed, source, None)) for source in sources}
    _check_files([*files.values()], sources, others, "-o", makes_folder=to_folder)
    _check_files([*copies.values()], sources, others, "--embed-chapters", makes_folder=False)
    _check_copies(copies)
    if split is not None:
        _check_split(split, sources)
    seen = replace(options, json=stream == "json", jsonl=stream == "jsonl", output=options.output if stream else None)
    places = Places(seen, stream, files, copies, None if split is None else Path(split), len(sources) > 1)
    _check_apart([*files.values(), *copies.values(), *([Path(options.output)] if stream and options.output not in (None, "-") else [])])
    return places


def _formats(wanted: str | None, options: Options) -> tuple[str, ...]:
    if wanted is None:
        return (options.format,)
    if options.json or options.jsonl:
        flag, name = ("--json", "json") if options.json else ("-j", "jsonl")
        raise UsageError(f"{flag} and --format exclude each other", f"add {name} to the list: --format {name},...")
    return tuple(dict.fromkeys(check(word.strip().lower()).name for word in wanted.split(",")))


def _one(formats: Sequence[str], videos: int) -> str:
    """The only format of a stream."""
    if len(formats) > 1:
        raise UsageError(f"--format {','.join(formats)} makes {len(formats)} files of each video", "give -o a folder or a name such as '{stem}.{ext}'")
    if videos > 1 and formats[0] not in (*APPENDED, "json"):  # json over several videos is refused with all commands
        raise UsageError(f"--format {formats[0]} holds one video", "give -o a folder or a name such as '{stem}.{ext}'")
    return formats[0]


def stem(source: str) -> str:
    """The name that the files made of a video begin with: its own without the extension; of a URL its last part."""
    if re.match(r"https?://", source, re.IGNORECASE):
        from urllib.parse import parse_qs, unquote, urlsplit

        parts = urlsplit(source)
        source = (parse_qs(parts.query).get("v") or [unquote(parts.path).rstrip("/")])[0] or parts.netloc
    return Path(source.replace("\0", "")).stem or "video"


def _is_pattern(text: str) -> bool:
    return _HOLDER.search(text) is not None


def _filled(pattern: str, source: str, name: str | None) -> str:
    """A pattern with a video and a format put in. Raises UsageError for a {word} that stands for nothing."""
    known = {"stem": stem(source)}
    if name is not None:
        known |= {"ext": FORMATS[name].extension, "format": name}

    def fill(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise UsageError(f"{match[0]} in {pattern} stands for nothing", f"use {', '.join('{%s}' % one for one in known)}")  # noqa: UP031
        return known[match[1]]

    return _HOLDER.sub(fill, pattern)


def _check_files(paths: Sequence[Path], sources: Sequence[str], others: Sequence[str], flag: str, *, makes_folder: bool) -> None:
    from mambamia_cli.cli.inputs import check_not_input

    for path in paths:
        check_not_input(str(path), sources, flag)
        check_not_input(str(path), others, flag, "the record")
        if makes_folder and not path.parent.is_dir():
            check_folder(path.parent, flag)
        else:
            Output(str(path)).check()


def check_folder(folder: Path, flag: str) -> None:
    """Prove that a folder is there or can be made. Raises OutputError."""
    above = folder
    while not os.path.lexists(above) and above.parent != above:
        above = above.parent
    if not above.is_dir():
        raise OutputError(f"cannot write to {folder}: {above} is not a folder", f"give {flag} another one")
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write to {folder}: permission denied", f"give {flag} another one")


def _check_copies(copies: dict[str, Path]) -> None:
    from mambamia_cli.video.containers import WITH_CHAPTERS

    for path in copies.values():
        if path.suffix.lower() not in WITH_CHAPTERS:
            raise UsageError(f"--embed-chapters {path} has no ending that tells the container", f"end its name with {', '.join(WITH_CHAPTERS)}")


def _check_split(split: str, sources: Sequence[str]) -> None:
    check_folder(Path(split), "--split")
    _distinct((stem(source), source) for source in sources)


def _check_apart(paths: Sequence[Path]) -> None:
    _distinct((os.path.realpath(path), str(path)) for path in paths)


def _distinct(named: Iterator[tuple[Any, str]]) -> None:
    """Refuse two results of one name."""
    seen: dict[Any, str] = {}
    for key, shown in named:
        if key in seen:
            both = f"two results would be written to {shown}" if seen[key] == shown else f"{seen[key]} and {shown} would be written to the same files"
            raise UsageError(both, "give each its own name, with {stem} and {ext}, or run them one by one")
        seen[key] = shown
