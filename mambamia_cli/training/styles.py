"""Drawings of named objects in many styles: name -> [RGBA pictures], rendered once and memory-mapped.

A new drawing style is the hard part of naming a needle (a network trained on one style names a quarter of another's
drawings), so every set is also rendered with dark outlines on all of its paths, which turns flat and shaded sets into
the outline-and-flat-fill look that many emoji and comic styles share.
"""

import io
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from mambamia_cli.training import linework, packages

SIZE = 192  # pixels a side of a stored drawing
HELD_OUT = ("streamline-emojis",)  # never trained on: it stands for "a style nobody has seen" in our own validation
MONOCHROME = ("emojione-monotone", "fluent-emoji-high-contrast", "icon-park", "game-icons")  # recoloured when pasted
CLIPART_PER_NAME = 10
OUTLINE_WIDTHS = (0.022, 0.04)  # stroke width over the drawing's width


@dataclass(frozen=True)
class Drawing:
    """Where a drawing stands: `name` of the object, `style`, row in the picture array, `mono` if one colour."""

    name: str
    style: str
    row: int
    mono: bool = False


def object_names() -> dict[str, str]:
    """{object name: Unicode code points} of everything a needle question can name."""
    return json.loads((files("mambamia_cli.training") / "needle_objects.json").read_text())


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _code_point_names(work: Path) -> dict[str, set[str]]:
    """{object name: what the sets with code points call it}, so that sets without code points are found by name."""
    known = {name: {_plain(name)} for name in object_names()}
    for style in ("noto", "twemoji", "fluent-emoji-flat"):
        _, chars, _ = packages.iconify(style, work)
        for name, code in object_names().items():
            for key in (code.lower(), code.lower() + "-fe0f"):
                if key in chars:
                    known[name].add(_plain(chars[key]))
    return known


def _svg(icon: dict, size: tuple[int, int], outline: float) -> str:
    width, height = icon.get("width", size[0]), icon.get("height", size[1])
    left, top = icon.get("left", 0), icon.get("top", 0)
    pad = outline * width
    body = icon["body"]
    if outline:
        body = f'<g stroke="#111" stroke-width="{outline * width}" stroke-linejoin="round" stroke-linecap="round">{body}</g>'
    box = f"{left - pad} {top - pad} {width + 2 * pad} {height + 2 * pad}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" color="#111">{body}</svg>'


def render_svg(text: str, size: int = SIZE) -> np.ndarray | None:
    """SVG text -> (size, size, 4) uint8 RGBA, trimmed to its ink and centred; None when nothing is drawn."""
    import resvg_py
    from PIL import Image

    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=text, width=size * 5 // 4, skip_system_fonts=True))
        return _fit(Image.open(io.BytesIO(png)), size)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001  the renderer's Rust panics (on a few filters) are not Exceptions; a drawing less is no loss
        return None


def _fit(picture, size: int) -> np.ndarray | None:
    from PIL import Image

    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    scale = size / max(picture.size)
    picture = picture.resize([max(1, round(s * scale)) for s in picture.size], Image.LANCZOS)
    canvas = Image.new("RGBA", (size, size))
    canvas.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return np.asarray(canvas)


def _iconify_drawings(style: str, work: Path, known: dict[str, set[str]]):
    icons, chars, size = packages.iconify(style, work)
    by_plain = {_plain(icon): icon for icon in reversed(icons)}
    mono = style in MONOCHROME
    for name, code in object_names().items():
        keys = [chars[k] for k in (code.lower(), code.lower() + "-fe0f") if k in chars]
        keys += [by_plain[k] for k in sorted(known[name]) if k in by_plain]
        icon = next((icons[k] for k in keys if k in icons), None)
        if icon is None:
            continue
        for outline in (0.0,) if mono else (0.0, *OUTLINE_WIDTHS):
            picture = render_svg(_svg(icon, size, outline))
            if picture is not None:
                yield name, style + ("+outline" if outline else ""), picture, mono


def _clipart_files(folder: Path, known: dict[str, set[str]]) -> dict[str, list[Path]]:
    """{object name: files whose words start or end with it}: a file named black_cat_01 is a cat, cat_food is not."""
    found: dict[str, list[Path]] = {name: [] for name in known}
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".svg", ".png") and p.is_file()):
        words = [w for w in re.split(r"[^a-z]+", path.stem.lower()) if w]
        if not words or "flags" in path.parts or "icons" in path.parts:
            continue
        for name in (words[0], words[1] if len(words) > 1 else ""):
            if name in found and len(words) <= 5 and not (name == words[0] and len(words) > 1 and words[1] in known):
                found[name].append(path)
                break
    return found


def _file_drawings(style: str, folder: Path, known: dict[str, set[str]]):
    from PIL import Image

    for name, paths in _clipart_files(folder, known).items():
        for path in paths[:: max(1, len(paths) // CLIPART_PER_NAME)][:CLIPART_PER_NAME]:
            if path.suffix == ".svg":
                picture = render_svg(path.read_text(errors="ignore"))
            else:
                try:
                    picture = _fit(Image.open(path), SIZE)
                except OSError:
                    continue
            if picture is not None and (picture[..., 3] > 128).mean() > 0.03:
                yield name, style, picture, False


def _distractors(folder: Path, known: dict[str, set[str]], most: int):
    """Drawings of things outside the list: seen in a video, they must not be called by a name of the list."""
    paths = [p for p in sorted(folder.rglob("*.svg")) if not {"flags", "icons", "shapes", "gradients"} & set(p.parts)]
    for path in paths[:: max(1, len(paths) // most)]:
        if not any(word in known for word in re.split(r"[^a-z]+", path.stem.lower())):
            picture = render_svg(path.read_text(errors="ignore"))
            if picture is not None and (picture[..., 3] > 128).mean() > 0.05:
                yield "", "distractor", picture, False


COLOURS_FROM = ("twemoji", "fxemoji")  # the sets that line drawings take their colours from


def _filled_lines(work: Path, index: list[dict], pictures: list[np.ndarray]):
    """Line drawings, coloured like what has been drawn by then."""
    colours: dict[str, list[np.ndarray]] = {}
    for fact, picture in zip(index, pictures, strict=True):
        if fact["style"] in COLOURS_FROM:
            colours.setdefault(fact["name"], []).append(picture)
    yield from linework.drawings(work, object_names(), render_svg, colours)


def build(work: Path, log=lambda text: None) -> None:
    """Render every drawing into work/drawings.npy (r, SIZE, SIZE, 4) uint8 and work/drawings.json."""
    known = _code_point_names(work)
    clipart = packages.fetch_debian("openclipart-svg", work)
    stamps = packages.fetch_debian("tuxpaint-stamps-default", work)
    sources = [_iconify_drawings(style, work, known) for style in packages.NPM_STYLES]
    sources += [_file_drawings("openclipart", clipart, known), _file_drawings("stamps", stamps, known)]
    sources += [_distractors(clipart, known, 500)]
    index, pictures = [], []
    sources.append(_filled_lines(work, index, pictures))
    for source in sources:
        before = len(index)
        for name, style, picture, mono in source:
            index.append({"name": name, "style": style, "row": len(index), "mono": mono})
            pictures.append(picture)
        log(f"{index[-1]['style']}: {len(index) - before} drawings")
    np.save(work / "drawings.tmp.npy", np.stack(pictures))
    (work / "drawings.tmp.npy").rename(work / "drawings.npy")
    (work / "drawings.json").write_text(json.dumps(index))


def load(work: Path, log=lambda text: None) -> tuple[list[Drawing], np.ndarray]:
    """(drawings, pictures (r, SIZE, SIZE, 4) memory-mapped), rendered on first use."""
    if not (work / "drawings.json").exists():
        build(work, log)
    index = [Drawing(**d) for d in json.loads((work / "drawings.json").read_text())]
    return index, np.load(work / "drawings.npy", mmap_mode="r")
