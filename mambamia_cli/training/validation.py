"""Held-out videos as files, with questions: the measure of the whole tool, decoder and encoder included.

Photographs with pans cut together as a haystack, three drawings for three seconds each, slowly moving. The photographs
are never trained on; the style is either trained on ("seen") or never ("unseen").
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from mambamia_cli.pipeline import colour
from mambamia_cli.pipeline.colour import COLOURS
from mambamia_cli.training import photos, questions, styles
from mambamia_cli.training.compose import SIZE, Footage, Part
from mambamia_cli.training.needles import Haystack

SECONDS, FPS, NEEDLES, NEEDLE_SECONDS = 45.0, 10, 3, 3.0
SEEN_STYLE = ("noto",)


def haystacks(work: Path) -> dict[str, Haystack]:
    """{"seen", "unseen"}: held-out photographs with drawings of a style trained on and of one that was not."""
    drawings, pictures = styles.load(work)
    plain = [d for d in drawings if not d.style.endswith("+outline") and d.name]
    held = photos.load(work, validation=True)
    return {"seen": Haystack(held, {}, plain, pictures, only_styles=SEEN_STYLE),
            "unseen": Haystack(held, {}, plain, pictures, only_styles=styles.HELD_OUT)}


def footage(stack: Haystack, rng) -> Footage:
    """A 45 s video: shots of 4 to 9 s, three drawings at 40 to 75 % of the height in disjoint stretches."""
    parts, at = [], 0.0
    while at < SECONDS:
        length = float(rng.uniform(4, 9))
        parts.append(Part(stack.background(rng, length), at))
        at += length
    slots = np.sort(rng.choice(int((SECONDS - 4) // 4), NEEDLES, replace=False))
    names = rng.choice(stack.names, NEEDLES, replace=False)
    tracks = []
    for name, slot in zip(names, slots, strict=True):
        start = 1.0 + 4.0 * float(slot) + float(rng.uniform(0, 1))
        track = stack.track(rng, str(name), start, start + NEEDLE_SECONDS, height=(0.4, 0.75), still=0.0, plain=True)
        tracks.append(dataclasses.replace(track, angle=float(rng.normal(0, 4)), spin=0.0))
    return Footage(tuple(parts), tuple(tracks))


def write_video(film: Footage, path: Path) -> None:
    """Encode as H.264 in MP4, through a temporary file."""
    import av

    temporary = path.with_suffix(".tmp.mp4")
    with av.open(str(temporary), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for i in range(int(SECONDS * FPS)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(film.frame(i / FPS), "rgb24")))
        out.mux(stream.encode())
    temporary.rename(path)


def rows(film: Footage, video: str, names: list[str], rng) -> list[dict]:
    """One question of each kind about a film: {"id", "video", "kind", "question", "options", "answer"}."""
    on = [t.name for t in film.tracks]  # in order of appearance
    absent = [n for n in names if n not in on]

    def options(answer: str, others: list[str], count: int = 4) -> list[str]:
        chosen = [answer, *(str(n) for n in rng.choice(others, count - 1, replace=False))]
        return [chosen[i] for i in rng.permutation(len(chosen))]

    middle = film.tracks[int(rng.integers(NEEDLES))]
    pair = [on[i] for i in rng.choice(NEEDLES, 2, replace=False)]
    made = [
        ("appear", "Which of these appears in the video?", (a := on[int(rng.integers(NEEDLES))]), options(a, absent)),
        ("first", "Which of these appears first?", on[0], options(on[0], [*on[1:], absent[0]])),
        ("last", "Which of these appears last?", on[-1], options(on[-1], [*on[:-1], absent[1]])),
        ("before", "Which appears before the other?", min(pair, key=on.index), pair),
        ("exists", f"Is there a {on[1]} in the video?", "yes", ["yes", "no"]),
        ("exists", f"Is there a {absent[2]} in the video?", "no", ["yes", "no"]),
        ("when", f"At what time does the {middle.name} appear?", middle.start + NEEDLE_SECONDS / 2, None),
        ("list", questions.LIST[0], questions.joined(on), None),
    ]
    return [{"id": f"{Path(video).stem}-{i}", "video": video, "kind": k, "question": q, "options": o, "answer": a}
            for i, (k, q, a, o) in enumerate(made)]


DURATIONS = ("1 second", "3 seconds", "9 seconds", "27 seconds")


def further(film: Footage, video: str, names: list[str], rng) -> list[dict]:
    """Questions about parts of the film, and of how long, how often and what colour; as `rows` gives them."""
    on = [t.name for t in film.tracks]
    absent = [str(n) for n in rng.choice([n for n in names if n not in on], 4, replace=False)]
    one, other = (film.tracks[i] for i in rng.choice(NEEDLES, 2, replace=False))
    middle = one.start + NEEDLE_SECONDS / 2
    elsewhere = (other.start + other.end) / 2
    shades = [c for c in COLOURS if c not in (painted := _colours(one.picture))]
    options = [painted[0], *(str(c) for c in rng.choice(shades, 3, replace=False))]

    def shuffled(options) -> list[str]:
        return [options[i] for i in rng.permutation(len(options))]

    made = [
        ("after", f"What appears right after the {on[0]}?", on[1], shuffled([*on[1:], absent[0], absent[1]])),
        ("moment", f"Which of these is shown at {_clock(middle)}?", one.name, shuffled([*on, absent[2]])),
        ("part", f"Is there a {one.name} between {_clock(middle - 3)} and {_clock(middle + 3)}?", "yes", ["yes", "no"]),
        ("part", f"Is there a {one.name} between {_clock(elsewhere - 1)} and {_clock(elsewhere + 1)}?", "no", ["yes", "no"]),
        ("times", f"How often does the {one.name} appear?", "once", None),
        ("times", f"How often does a {absent[3]} appear?", "never", None),
        ("duration", f"How long is the {other.name} visible?", DURATIONS[1], shuffled(DURATIONS)),
        ("colour", f"What colour is the {one.name}?", painted[0], shuffled(options)),
        ("colour, open", f"What colour is the {other.name}?", _colours(other.picture)[0], None),
    ]
    return [{"id": f"{Path(video).stem}-further-{i}", "video": video, "kind": k, "question": q, "options": o, "answer": a}
            for i, (k, q, a, o) in enumerate(made)]


def _clock(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


def _colours(picture: np.ndarray) -> list[str]:
    """Colours of a drawing (H, W, 4), the foremost first, and others that have more than half as much of it: outlines count little."""
    opaque = np.bincount(colour.names(picture[..., :3])[picture[..., 3] > 200], minlength=len(COLOURS)).astype(float)
    part = colour.foremost(opaque / max(1.0, opaque.sum()))
    return [COLOURS[k] for k in np.argsort(-part) if part[k] >= part.max() / 2]


def make(work: Path, folder: Path, *, count: int, seed: int, log) -> Path:
    """Write `count` videos of each sort, questions.jsonl and further.jsonl (`rows`, `further`) into `folder`; returns the first one's path."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(styles.object_names())
    lines, more = [], []
    for s, (sort, stack) in enumerate(haystacks(work).items()):
        for i in range(count):
            rng = np.random.default_rng((seed, s, i))
            film, path = footage(stack, rng), folder / f"{sort}-{i:02d}.mp4"
            if not path.exists():
                write_video(film, path)
                log(f"validation video {path.name}")
            lines += [json.dumps({**row, "sort": sort}) for row in rows(film, path.name, names, rng)]
            more += [json.dumps({**row, "sort": sort}) for row in further(film, path.name, names, rng)]
    target = folder / "questions.jsonl"
    target.write_text("\n".join(lines) + "\n")
    (folder / "further.jsonl").write_text("\n".join(more) + "\n")
    return target
