"""Lines -> jobs. All lines are checked before anything runs, and one bad line refuses the run: nothing is dropped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mambamia_cli.batch.settings import COMMANDS, NEEDED, SETTINGS, SINGULAR, text
from mambamia_cli.errors import UsageError


@dataclass(frozen=True)
class Job:
    """One line of JOBS, checked: `settings` are its own and, where it says nothing, the command line's."""

    cmd: str
    video: str
    settings: dict[str, Any]
    id: str | None = None

    def line(self) -> str:
        """The job as a line of JOBS that says everything itself."""
        named = {} if self.id is None else {"id": self.id}
        return json.dumps({**named, "video": self.video, "cmd": self.cmd, **self.settings})


def parse(data: bytes, source: str, defaults: Mapping[str, Any]) -> list[Job]:
    """The jobs of a JOBS file. `source` is how it is called in a message; `defaults` has "cmd" and settings for every job.

    Raises:
        UsageError: naming the first bad line and how many more are bad.
    """
    jobs: list[Job] = []
    bad: list[str] = []
    ids: dict[str, int] = {}
    # Only "\n" ends a line: a path may hold any other character that splitlines() would take for an end.
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        words = line.removesuffix(b"\r").decode("utf-8", "surrogateescape")  # paths are bytes
        if not words.strip() or words.startswith("#"):
            continue
        try:
            job = _job(words, defaults)
            if job.id is not None and ids.setdefault(job.id, number) != number:
                raise UsageError(f"repeats the id {job.id!r} of line {ids[job.id]}")
            jobs.append(job)
        except UsageError as error:
            bad.append(f"line {number} of {source}: {error.message}")
    if bad:
        more = f" (and {len(bad) - 1} more line{'s are' if len(bad) > 2 else ' is'} bad)" if bad[1:] else ""
        raise UsageError(bad[0] + more, "nothing was run: correct it first")
    return jobs


def _job(words: str, defaults: Mapping[str, Any]) -> Job:
    data = _object(words) if words.lstrip().startswith("{") else {"video": words}
    video = text(data.pop("video", None), '"video"')
    name = data.pop("id", None)
    if name is not None:
        text(name, '"id"')
    cmd = data.pop("cmd", defaults.get("cmd"))
    if cmd is None:
        raise UsageError('there is no "cmd", and no --cmd')
    if cmd not in COMMANDS:
        raise UsageError(f'"cmd" {_short(cmd)} is not one of {", ".join(COMMANDS)}')
    given = {key: value for key, value in defaults.items() if key in SETTINGS and cmd in SETTINGS[key].commands}
    settings = given | _own(data, cmd)
    if cmd in NEEDED and NEEDED[cmd][0] not in settings:
        raise UsageError(f"there is no {NEEDED[cmd][1]} to {cmd}")
    if "end" in settings and Fraction(settings["end"]) <= Fraction(settings.get("start", 0)):
        raise UsageError('"end" is not after the start')
    return Job(cmd, video, {key: settings[key] for key in SETTINGS if key in settings}, name)


def _object(words: str) -> dict[str, Any]:
    try:
        words.encode()
        data = json.loads(words, object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeEncodeError:
        raise UsageError("it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"it is not JSON ({error})") from None
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no key comes twice: the first would be dropped."""
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise UsageError(f'"{next(key for key in keys if keys.count(key) > 1)}" comes twice')
    return data


def _no_number(word: str) -> Any:
    raise UsageError(f"{word} is not a number")


def _own(data: dict[str, Any], cmd: str) -> dict[str, Any]:
    """What the line itself sets, checked."""
    own: dict[str, Any] = {}
    for key, value in data.items():
        name = SINGULAR.get(key, key)
        if name not in SETTINGS:
            raise UsageError(f'"{key}" is not known')
        if cmd not in SETTINGS[name].commands:
            raise UsageError(f'"{key}" is not for {cmd}')
        if name in own:
            raise UsageError(f'"{key}" and "{name}" exclude each other' if key != name else f'"{name}" comes beside its singular')
        shown = f'"{key}" {_short(value)}'
        own[name] = SETTINGS[name].check(text(value, shown) if key in SINGULAR else value, shown)
    return own


def _short(value: Any) -> str:
    written = json.dumps(value)
    return written if len(written) <= 60 else written[:57] + "..."
