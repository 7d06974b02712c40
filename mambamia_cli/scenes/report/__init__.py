"""A scenes record as one HTML page that needs no network: the curve, the scenes with their thumbnails, and the video.

The page is page.html with page.css and page.js put into it. Its policy lets nothing run or style but these two, by their
hashes, and nothing load but the pictures in it and the video. What comes from a record or a file name stands either in
the markup, escaped, or in a JSON block in which `<`, `>` and `&` are written as escapes.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mambamia_cli.records import Scene, ScenesRecord, timecode
from mambamia_cli.scenes.plot import means, thin
from mambamia_cli.scenes.scale import ceiling, drawn
from mambamia_cli.scenes.table import _span

WIDTH, HEIGHT, ROOF = 2000, 100, 8
"""Units of the curve's drawing, and how many of them at its top are the markers' own."""

CROWDED, STRETCHES = 400, 360
"""Of more scenes than CROWDED the curve is drawn as the highest and the mean delta of so many stretches."""

THUMBS_BYTES = 18 << 20
"""What the thumbnails of a page may take together: in base64 24 MiB."""

SIZES = ((180, 320, 400), (135, 240, 1200), (90, 160, 5000), (54, 96, 1 << 62))
"""(height, width) a thumbnail stays within, for up to so many scenes."""

KINDS = {"cut": "cut", "dissolve": "dissolve", "wipe": "wipe", "fade-black": "fade through black", "fade-white": "fade through white"}
JOINERS = "\u200c\u200d"
"""Format characters that some scripts are written with; all others (a change of direction, say) could disguise a name."""


def thumb_limits(count: int) -> tuple[tuple[int, int], int]:
    """(height, width) that each of `count` thumbnails stays within, and the bytes it should not exceed."""
    height, width, _ = next(row for row in SIZES if count <= row[2])
    return (height, width), THUMBS_BYTES // max(count, 1)


def page(
    record: ScenesRecord, target: Path, *, video: Path | None = None, stream: int | None = None,
    thumbs: Sequence[bytes | None] | None = None,
) -> bytes:  # fmt: skip
    """The page as UTF-8. target: where it will stand, which the address of `video` is counted from. thumbs: a JPEG a scene."""
    style, script = _part("page.css"), _part("page.js")
    start, end = record.range or (record.scenes[0].start, record.scenes[-1].end)
    name = shown(record.video.title or record.video.source.rsplit("/", 1)[-1])
    offset = 0.0 if video is None else _offset(video, stream)
    data = {
        "name": name, "offset": offset, "codec": record.video.codec, "start": _ms(start), "end": _ms(end),
        "threshold": record.threshold if record.level is None else None,
        "scenes": [[_ms(s.start), _ms(s.end), s.peak] for s in record.scenes],
    }  # fmt: skip
    top = max((scene.peak for scene in record.scenes), default=0.0)
    parts = {
        "policy": f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; media-src 'self' file: blob:; "
                  f"style-src {_hash(style)}; script-src {_hash(script)}",
        "style": style, "script": script, "name": escape(name), "facts": escape(" · ".join(_facts(record, start, end))),
        "source": "" if video is None else f'src="{escape(address(video, target))}"',
        "notes": "".join(f"<p class=note>{escape(shown(text))}</p>" for text in record.warnings),
        "curve": _curve(record, start, end), "start": f"{start:.3f}", "end": f"{end:.3f}",
        "rows": "\n".join(_row(i, s, top, long=end >= 3600) for i, s in enumerate(record.scenes)),
        "bare": "" if thumbs else " bare",
        "data": _island(data),
        "thumbs": _island([base64.b64encode(t).decode() if t else None for t in thumbs or ()]),
        "tool": escape(shown(f"mambamia {record.tool.version}, {record.tool.model}" if record.tool else "mambamia")),
    }  # fmt: skip
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html")).encode("utf-8", "replace")


def address(video: Path, target: Path) -> str:
    """The address of a video from a page at `target`: relative, so that both can be moved together, each part quoted."""
    path = os.path.relpath(os.path.realpath(video), os.path.dirname(os.path.realpath(target)))
    return "/".join(["." if not path.startswith("..") else "", *(quote(os.fsencode(part), safe="") for part in path.split(os.sep))]).lstrip("/")


def shown(text: str) -> str:
    """Text of unknown origin as it may be shown: what does not print becomes a mark."""
    return "".join(c if c.isprintable() or c in JOINERS else "\ufffd" for c in text)


def _offset(video: Path, stream: int | None) -> float:
    """Seconds from a player's zero to the first frame: a player counts from the first packet of any
    stream, a record from the first frame shown."""
    from mambamia_cli.video.container import open_container
    from mambamia_cli.video.probe import probe

    info = probe(video, stream=stream)
    with open_container(video) as container:
        zero = (container.start_time or 0) / 1e6
    return _ms(max(float(info.start_time) - zero, 0.0)) if info.clock == "pts" else 0.0


def _facts(record: ScenesRecord, start: float, end: float) -> list[str]:
    video, count = record.video, len(record.scenes)
    facts = [f"{count} {record.level or 'scene'}{'s' if count != 1 else ''}", _span(end - start)]
    if video.width and video.height:
        facts.append(f"{video.width} × {video.height}")
    if video.fps:
        top, _, bottom = video.fps.partition("/")
        facts.append(f"{int(top) / int(bottom or 1):.6g} frames a second")
    return [shown(fact) for fact in (*facts, *([video.codec] if video.codec else []))]


def _row(index: int, scene: Scene, top: float, *, long: bool) -> str:
    """A scene of the list: a button, of which one at a time is reached by Tab and the others by the arrow keys."""
    kind = KINDS.get(scene.transition or "", scene.transition or "")
    gradual = scene.transition_start is not None and scene.transition_end is not None
    if gradual:
        kind += f" {scene.transition_end - scene.transition_start:.1f} s"
    title = shown(scene.title or "")
    length = _span(scene.end - scene.start)
    said = ", ".join(filter(None, (f"Scene {scene.n}", title, f"from {_time(scene.start, long)}", f"lasts {length}", kind)))
    score = f"{scene.peak:.1f}" if scene.peak else ""
    bar = round(100 * scene.peak / top, 1) if top else 0
    return (
        f'<li><button type=button class=scene id=s{index} tabindex={-1 if index else 0} aria-label="{escape(said)}">'
        f'<span class=thumb><img alt=""></span><span class=what><span class=n>{scene.n}</span>'
        f"{f'<bdi class=title>{escape(title)}</bdi>' if title else ''}<span class=when><time>{_time(scene.start, long)}</time><span class=end> – <span>{_time(scene.end, long)}</span></span></span></span>"
        f"<span class=more><span class=length>{length}</span>{f'<span class=kind>{escape(shown(kind))}</span>' if kind else ''}"
        + (f'<span class=score><svg viewBox="0 0 100 4" preserveAspectRatio=none aria-hidden=true><rect width={bar} height=4 /></svg>{score}</span>'
           if score else "")
        + "</span></button></li>"
    )  # fmt: skip


def _curve(record: ScenesRecord, start: float, end: float) -> str:
    """Paths of the delta curve: the area below it, the band between its lowest and highest, transitions. It is scaled as
    scenes.scale says; the paths end flat where it is cut off."""
    curve = drawn(record.delta)
    crowded = len(record.scenes) > CROWDED
    times, low, high = thin(curve, STRETCHES if crowded else WIDTH)
    top = ceiling(curve, [scene.start for scene in record.scenes[1:]]) or 1.0
    length = end - start if end > start else 1.0

    def x(time: float) -> str:
        return f"{min(max((time - start) / length, 0), 1) * WIDTH:.1f}".removesuffix(".0")

    def y(value: float) -> str:
        return f"{HEIGHT - min(max(value, 0), top) / top * (HEIGHT - ROOF - 2):.1f}".removesuffix(".0")

    def path(values: Sequence[float]) -> str:
        return "L".join(f"{x(t)} {y(v)}" for t, v in zip(times, values, strict=True))

    spans = "".join(
        f"M{x(s.transition_start)} 0H{x(s.transition_end)}V{HEIGHT}H{x(s.transition_start)}Z"
        for s in record.scenes if s.transition_start is not None and s.transition_end is not None
    )  # fmt: skip
    if not times:
        return '<path class=spans d=""/>'
    left, right = f"M{x(times[0])} {HEIGHT}L", f"L{x(times[-1])} {HEIGHT}Z"
    line, band = path(high), ""
    if crowded:  # peaks would stand closer than they can be told apart: the highest pale, the mean as a line
        line = path(means(curve, len(times)))
        band = f'<path class=band d="{left}{line}{right}"/>'
    elif low is not high:
        lower = "L".join(reversed(path(low).split("L")))
        band = f'<path class=band d="M{line}L{lower}Z"/>'
    return f'<path class=spans d="{spans}"/><path class=area d="{left}{path(high)}{right}"/>{band}<path class=line d="M{line}"/>'


def _time(seconds: float, long: bool) -> str:
    """The record's timecode, without hours where the video has none."""
    code = timecode(seconds)
    return code if long else code.removeprefix("00:")


def _ms(seconds: float) -> float:
    return round(float(seconds), 3)


def _island(value: Any) -> str:
    """JSON that no markup can end or hide in, whatever is in its strings."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
