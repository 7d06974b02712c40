"""JSON -> ScenesRecord: what `mambamia scenes --json` (or -j) wrote, checked field by field. Imports no torch."""

import json
import math
import types
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import mambamia_cli
from mambamia_cli.errors import InputError
from mambamia_cli.records import LEVELS, ErrorRecord, ScenesRecord

_AGAIN = "make it again with 'mambamia scenes VIDEO --json'"
_SCHEMAS = {one.__dataclass_fields__["schema"].default: one for one in (ScenesRecord, ErrorRecord)}


def load(path: str) -> list[ScenesRecord | ErrorRecord]:
    """The records of a file, one JSON text or one a line ("-" reads standard input). At least one.

    Raises:
        InputError: the file cannot be read, is not JSON, or holds something else or a record of another version.
    """
    import sys

    shown = "standard input" if path == "-" else path
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}", "check the path") from error
    except ValueError as error:  # not UTF-8, or a name with a null character
        raise InputError(f"{path} is not a record in JSON", _AGAIN) from error
    found = [_record(data, shown) for data in _parsed(text, shown)]
    if not found:
        raise InputError(f"{shown} is empty", _AGAIN)
    return found


def _parsed(text: str, shown: str) -> list[Any]:
    try:
        return [json.loads(text)] if text.strip() else []
    except (ValueError, RecursionError):
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown} is not a record in JSON", _AGAIN) from error


def _record(data: Any, shown: str) -> ScenesRecord | ErrorRecord:
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, str):
        raise InputError(f"{shown} is not a record of mambamia", _AGAIN)
    kind = _SCHEMAS.get(schema)
    if kind is None:
        known = next(iter(_SCHEMAS))
        raise InputError(f"{shown} is a record of kind {schema[:40]} and version {mambamia_cli.__version__} marks scenes in {known} only", _AGAIN)
    try:
        record = _built(kind, data, "")
        if isinstance(record, ScenesRecord):
            _check(record)
    except _Unfit as problem:
        raise InputError(f"{shown} is not a whole record: {problem}", _AGAIN) from None
    return record


class _Unfit(Exception):
    """A sentence about the part of a record that cannot be used."""


def _check(record: ScenesRecord) -> None:
    """What types do not say: times that follow each other, parts that belong together."""
    for name, moments in (
        ("scenes", [t for scene in record.scenes for t in (scene.start, scene.end)]),
        ("delta", [t for t, _ in record.delta]),
        ("candidates", [one.time for one in record.candidates or ()]),
        ("range", list(record.range or ())),
    ):
        if any(b < a for a, b in pairwise(moments)) or (moments and moments[0] < 0):
            raise _Unfit(f"the times in '{name}' are not in order")
    try:
        stated = Fraction(record.video.fps or 25)
    except (ValueError, ZeroDivisionError):
        stated = Fraction(0)
    if stated <= 0:
        raise _Unfit("'video.fps' is not a rate")
    if record.candidates == ():
        raise _Unfit("'candidates' is empty")
    if record.level is not None and record.level not in LEVELS:
        raise _Unfit(f"'level' is none of {', '.join(LEVELS)}")
    for name, ones in (("scenes", record.scenes), ("candidates", record.candidates or ())):
        if any((one.transition_start is None) != (one.transition_end is None) for one in ones):
            raise _Unfit(f"a transition in '{name}' has only one end")
    if len({len(one.signature) for one in record.candidates or () if one.signature is not None}) > 1:
        raise _Unfit("the signatures in 'candidates' are not of one length")
    if not record.scenes and record.range is None:
        raise _Unfit("it has neither 'scenes' nor 'range'")


def _built(hint: Any, value: Any, where: str) -> Any:
    """A value of JSON as the type `hint` says. Fields that are not known are left out: a later version may add some."""
    if is_dataclass(hint):
        return _dataclass(hint, value, where)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _built(next(one for one in inner if one is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list) or (inner[-1] is not ... and len(value) != len(inner)):
            raise _Unfit(f"'{where}' is not the list it must be")
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        return tuple(_built(kind, one, where) for kind, one in zip(kinds, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise _Unfit(f"'{where}' is not an object")
        return {key: _built(inner[1], one, f"{where}.{key}") for key, one in value.items()}
    if hint is Any:
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)) and hint is not float:
        return value
    raise _Unfit(f"'{where}' is {json.dumps(value)[:40]}, which is no {hint.__name__}")


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _Unfit(f"'{where}' is not an object" if where else "it is not an object")
    hints, made = get_type_hints(kind), {}
    for one in fields(kind):
        path = f"{where}.{one.name}" if where else one.name
        if one.name in value:
            made[one.name] = _built(hints[one.name], value[one.name], path)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise _Unfit(f"'{path}' is missing")
    return kind(**made)
