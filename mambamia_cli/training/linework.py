"""Line drawings from emoji fonts, bare and coloured in: another hand's idea of each object.

A set redrawn with outlines still has its own shapes. What a new style brings is new shapes, in flat colours behind dark
lines as often as not; so the glyphs of two line fonts are filled, region by region, with colours that another set gives
the same object.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mambamia_cli.training import packages

PALETTE, INK = 4, 20  # colours taken from the other set's drawing; grey value of the lines
NOTO_WEIGHTS = (300, 600)
STYLES = (*(f"noto-lines-{w}" for w in NOTO_WEIGHTS), "symbola")
GAP = 2  # pixels: openings of a line up to twice this wide do not let the colour out
SMALLEST = 12  # pixels: what is smaller is left the line's colour


def glyph_files(work: Path) -> dict[str, list[Path]]:
    """{style: font files}, each file holding some of the emoji. Noto's are in two weights: thin and strong lines."""
    noto = packages.fetch_npm("@fontsource/noto-emoji", work) / "files"
    symbola = packages.fetch_debian("fonts-symbola", work)
    weights = {f"noto-lines-{w}": sorted(noto.glob(f"noto-emoji-*-{w}-normal.woff")) for w in NOTO_WEIGHTS}
    return {**weights, "symbola": sorted(symbola.rglob("Symbola*.ttf"))}


def drawings(work: Path, code_points: dict[str, str], render, colours: dict[str, list[np.ndarray]]) -> Iterator[tuple[str, str, np.ndarray, bool]]:
    """(name, style, RGBA picture, of one colour) of every glyph: the lines, then one filled drawing for each of `colours`
    {name: RGBA pictures of other sets}. render: SVG text -> RGBA picture or None (styles.render_svg)."""
    for style, files in glyph_files(work).items():
        for name, text in _outlines(files, code_points).items():
            picture = render(text)
            if picture is None:
                continue
            yield name, style, picture, True
            for other in colours.get(name, ()):
                filled = fill(picture, palette(other))
                if filled is not None:
                    yield name, style, filled, False


def _outlines(files: list[Path], code_points: dict[str, str]) -> dict[str, str]:
    """{name: SVG text} of the glyphs that the fonts have."""
    from fontTools.pens.boundsPen import BoundsPen
    from fontTools.pens.svgPathPen import SVGPathPen
    from fontTools.ttLib import TTFont

    found: dict[str, str] = {}
    wanted = {name: int(code.split("-")[0], 16) for name, code in code_points.items()}
    for path in files:
        font = TTFont(path)
        glyphs, known = font.getGlyphSet(), font.getBestCmap()
        for name, point in wanted.items():
            if point not in known or name in found:
                continue
            glyph, path_pen, box = glyphs[known[point]], SVGPathPen(glyphs), BoundsPen(glyphs)
            glyph.draw(path_pen)
            glyph.draw(box)
            if box.bounds is not None:
                found[name] = _svg(path_pen.getCommands(), box.bounds)
    return found


def _svg(commands: str, bounds: tuple[float, float, float, float]) -> str:
    """A font's y points up, SVG's down."""
    left, low, right, high = bounds
    side = max(right - left, high - low)
    x, y = (left + right - side) / 2, -(low + high + side) / 2
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x} {y} {side} {side}">'
            f'<path transform="scale(1,-1)" fill="#111" d="{commands}"/></svg>')  # fmt: skip


def palette(picture: np.ndarray) -> np.ndarray:
    """The commonest colours of an RGBA picture's opaque part, (c, 3) uint8, commonest first."""
    from PIL import Image

    seen = picture[picture[..., 3] > 200][:, :3]
    if not len(seen):
        return np.full((1, 3), 255, np.uint8)
    small = Image.fromarray(np.ascontiguousarray(seen[None])).quantize(PALETTE)
    share = sorted(small.getcolors(), reverse=True)
    table = np.array(small.getpalette()[: 3 * PALETTE], np.uint8).reshape(-1, 3)
    return table[[index for _, index in share if index < len(table)]]


def fill(picture: np.ndarray, colours: np.ndarray) -> np.ndarray | None:
    """A line drawing (S, S, 4), what its lines enclose filled with `colours` (c, 3): the largest region with the first, and so on.
    None where the lines enclose next to nothing."""
    import cv2

    ink = np.pad(picture[..., 3], GAP + 1)  # the rim is outside
    wall = cv2.dilate((ink > 96).astype(np.uint8), np.ones((2 * GAP + 1,) * 2, np.uint8))
    _, labels = cv2.connectedComponents(1 - wall, connectivity=4)
    outside = cv2.dilate((labels == labels[0, 0]).astype(np.uint8) * (1 - wall), np.ones((2 * GAP + 1,) * 2, np.uint8))
    inside = ((outside == 0) & (ink <= 96)).astype(np.uint8)
    _, regions, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    order = [r for r in np.argsort(-facts[:, cv2.CC_STAT_AREA]) if r and facts[r, cv2.CC_STAT_AREA] >= SMALLEST]
    if not order or sum(facts[r, cv2.CC_STAT_AREA] for r in order) < 0.05 * picture[..., 0].size:
        return None
    out = np.zeros((*ink.shape, 4), np.uint8)
    for k, region in enumerate(order):
        grown = cv2.dilate((regions == region).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)  # under the line's soft edge
        out[grown] = (*colours[k % len(colours)], 255)
    line = ink[..., None].astype(np.float32) / 255
    out[..., :3] = (out[..., :3] * (1 - line) + INK * line).astype(np.uint8)
    out[..., 3] = np.maximum(out[..., 3], ink)
    return np.ascontiguousarray(out[GAP + 1 : -GAP - 1, GAP + 1 : -GAP - 1])
