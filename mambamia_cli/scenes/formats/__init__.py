"""A scenes record as text for other programs: one pure function a format, none of which needs the video or torch.

`render` finds the writer; what a writer had to change or leave out comes back as sentences beside the text.
"""

from dataclasses import dataclass
from importlib import import_module, util

from mambamia_cli.errors import UsageError
from mambamia_cli.records import ScenesRecord

Written = tuple[str, list[str]]
"""The text, and a sentence for everything that a reader of it must know."""


@dataclass(frozen=True)
class Format:
    """What `-f NAME` writes. `writer` is "module:function" here, None for the views that the command itself makes
    (text, json, jsonl); `needs` a package that must be installed, `extra` the extra of ours that brings it."""

    name: str
    extension: str
    writer: str | None = None
    needs: str | None = None
    extra: str | None = None


FORMATS = {one.name: one for one in (
    Format("text", "txt"),
    Format("json", "json"),
    Format("jsonl", "jsonl"),
    Format("csv", "csv", "sheet:write"),
    Format("csv-table", "table.csv", "sheet:write_table"),
    Format("ffmetadata", "ffmetadata.txt", "chapters:ffmetadata"),
    Format("ogm", "ogm.txt", "chapters:ogm"),
    Format("vtt", "vtt", "chapters:vtt"),
    Format("youtube", "youtube.txt", "chapters:youtube"),
    Format("edl", "edl", "edl:write"),
    Format("otio", "otio", "otio:write", needs="opentimelineio", extra="otio"),
    Format("fcpxml", "fcpxml", "fcpxml:write"),
)}  # fmt: skip

SHORT = {"ffmeta": "ffmetadata"}
"""Other names of a format."""


def check(name: str) -> Format:
    """The format of a name.

    Raises:
        UsageError: there is none, or the package that it needs is not installed.
    """
    known = FORMATS.get(SHORT.get(name, name))
    if known is None:
        raise UsageError(f"--format {name or repr(name)} is not known", f"use some of {', '.join(FORMATS)}")
    if known.needs is not None and util.find_spec(known.needs) is None:
        raise UsageError(f"--format {name} needs the package {known.needs}", f"install it: pip install 'mambamia-cli[{known.extra}]'")
    return known


def render(record: ScenesRecord, name: str) -> Written:
    """A record in a format that has a writer. Raises UsageError as `check` does."""
    writer = check(name).writer
    assert writer is not None, f"{name} is made by the command"
    module, function = writer.split(":")
    return getattr(import_module(f"{__name__}.{module}"), function)(record)
