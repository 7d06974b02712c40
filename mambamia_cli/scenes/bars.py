"""Black bars above and below a picture, or beside it. Whatever the picture does, they and their edges stand: of a cut between two soft shots,
what stays would be as much as what goes. No torch.

A bar's lines are dark but for LIT of their pixels, which a subtitle may be. Bars come in pairs of one width, THINNEST
lines at least, that leave half of the picture: the night sky of a shot has no other at the bottom. The lines next to them are lit:
what is written on a black board is no picture between bars.
"""

import numpy as np

DARK, LIT, THINNEST = 24, 0.3, 2


def without_bars(frames: np.ndarray) -> np.ndarray:
    """frames (m, H, W) or (m, H, W, 3), grey values -> the same, bars filled with the lines of the picture next to them.

    A frame's bars are found in that frame alone. What has none is given back as it is, not copied.
    """
    dark = (frames[..., 1] if frames.ndim == 4 else frames) <= DARK  # (m, H, W)
    level, upright = 1 - dark.mean(2), 1 - dark.mean(1)  # (m, H), (m, W)
    found = [(k, _pair(level[k]), _pair(upright[k])) for k in range(len(frames))]
    barred = [(k, rows, columns) for k, rows, columns in found if (rows is None) != (columns is None)]  # both: a picture faded to black
    if not barred:
        return frames
    filled = frames.copy()
    for k, rows, columns in barred:
        picture = filled[k] if rows is not None else filled[k].swapaxes(0, 1)
        first, last = rows or columns
        picture[:first], picture[last + 1 :] = picture[first], picture[last]
    return filled


def _pair(bright: np.ndarray) -> tuple[int, int] | None:
    """The share of each line that is not dark (n,) -> the first and the last line between two bars; None where there are none.

    A line next to a bar may be half of it, and counts as the bar's.
    """
    lit = np.flatnonzero(bright > LIT)
    if not len(lit):
        return None
    before, after = int(lit[0]), len(bright) - 1 - int(lit[-1])
    wide = max(before, after)  # a subtitle may make one look narrower
    if min(before, after) < THINNEST or wide > len(bright) / 4:
        return None
    first, last = wide + 1, len(bright) - wide - 2
    return (first, last) if last > first and min(bright[first], bright[last]) >= 1 - LIT else None
