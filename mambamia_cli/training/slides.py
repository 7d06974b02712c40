"""Slides and screens with known truth: decks of drawn text that share a template, built up bullet by bullet.

A new slide is a boundary; a bullet that appears, a line that is typed, a page that scrolls, a pointer and a speaker in
the corner are not. The words are made up of letters of several scripts: what they say does not matter here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mambamia_cli.training import packages

SIZE = (360, 640)  # height, width
SCRIPTS = {
    "latin": "eeeeaaaoooiiinnnrrrtttssslldduummccppbbgghhffvvyykwjxzq",
    "greek": "ααεεοοιιννττσσρρκκλλππμμδδγθυηωφχβζξψ",
    "cyrillic": "ооеааиинннттссррввллккммддппууяыьгзбчйхжшюцщэф",
    "cjk": "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市眼体别处总才场师书比住员九笑性通目华报立马命张活难神数件安表原车白应路期叫死常提感金何更反合放做系计或司利受光王果亲界及今京务制解各任至清物台象记边共风战干接它许八特觉望直服毛林题建南度统色字请交爱让认算论百吃义科怎元社术结六功指思非流每青管夫连远资队跟带花快条院变联言权往展该领传近留红治决周保达办运武半候七必城父强步完革深区即求品士转量空甚众技轻程告江语英基派满式李息写呢识极令黄德收脸钱党倒未持取设始版双历越史商千片容研像找友孩站广改议形委早房音火际则首单据导影失拿网香似斯专石若兵弟谁校读志飞观争究包组造落视济喜离虽坏兴",
}  # fmt: skip


@dataclass(frozen=True)
class Fonts:
    """Font files, and which of them have Chinese characters."""

    plain: tuple[str, ...]
    wide: tuple[str, ...]

    @classmethod
    def load(cls, work: Path, *, validation: bool) -> "Fonts":
        """Of each package's faces one in four is kept for validation."""
        plain, wide = [], []
        for name in packages.DEBIAN_FONTS:
            files = sorted(p for p in packages.fetch_debian(name, work).rglob("*") if p.suffix in (".ttf", ".otf", ".ttc"))
            files = [str(p) for p in files if not any(w in p.name for w in ("Symbol", "Math", "Icon"))]
            (wide if "wqy" in name else plain).extend(files)
        chosen = [f for i, f in enumerate(plain) if (i % 4 == 3) == validation]
        return cls(tuple(chosen), tuple(wide))


def _words(rng, script: str, count: int) -> str:
    letters = SCRIPTS[script]
    if script == "cjk":
        return "".join(letters[i] for i in rng.integers(0, len(letters), 3 * count))
    made = []
    for _ in range(count):
        word = "".join(letters[i] for i in rng.integers(0, len(letters), int(rng.integers(1, 11))))
        made.append(word.capitalize() if rng.random() < 0.15 else word)
    return " ".join(made)


class Deck:
    """Slides of one template. `slide(rng)` draws one as the pictures of its builds, each (*SIZE, 3) uint8."""

    def __init__(self, fonts: Fonts, photos: list[np.ndarray], rng):
        self.script = str(rng.choice(list(SCRIPTS), p=[0.6, 0.1, 0.15, 0.15]))
        face = fonts.wide if self.script == "cjk" else fonts.plain
        self.face, self.title_face = (str(face[rng.integers(len(face))]) for _ in range(2))
        self.photos = photos
        self.background, light = self._background(rng)
        ink = rng.integers(0, 90, 3) if light else rng.integers(170, 256, 3)
        self.ink = tuple(int(c) for c in ink)
        self.accent = tuple(int(c) for c in (rng.integers(0, 150, 3) if light else rng.integers(110, 256, 3)))
        self.size = int(rng.integers(13, 24))
        self.left = int(rng.integers(20, 70))
        self.top = int(rng.integers(12, 40))
        self.centred = bool(rng.random() < 0.2)
        self.mark = str(rng.choice(["•", "-", "", "–", "1"])) if self.script != "cjk" else ""
        self.layouts = rng.choice(["bullets", "bullets", "bullets", "columns", "picture", "quote", "table", "code", "chart"], 4)

    def _background(self, rng) -> tuple[np.ndarray, bool]:
        import cv2

        kind, light = rng.random(), rng.random() < 0.6
        base = (rng.integers(200, 256, 3) if light else rng.integers(0, 70, 3)).astype(np.float32)
        if rng.random() < 0.35 and light:
            base[:] = 255 if rng.random() < 0.6 else base.mean()
        canvas = np.broadcast_to(base, (*SIZE, 3)).copy()
        if kind < 0.3:
            other = np.clip(base + rng.uniform(-50, 50, 3), 0, 255)
            ramp = np.linspace(0, 1, SIZE[int(rng.integers(2))], dtype=np.float32)
            ramp = ramp[:, None, None] if len(ramp) == SIZE[0] else ramp[None, :, None]
            canvas = base * (1 - ramp) + other * ramp
            canvas = np.broadcast_to(canvas, (*SIZE, 3)).copy()
        elif kind < 0.45:
            photo = cv2.resize(self.photos[rng.integers(len(self.photos))], SIZE[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
            weight = rng.uniform(0.1, 0.4)
            canvas = canvas * (1 - weight) + photo * weight
        canvas = canvas.astype(np.uint8)
        if rng.random() < 0.5:  # a bar along an edge
            colour = [int(c) for c in rng.integers(0, 256, 3)]
            thick = int(rng.integers(4, 40))
            edge = np.s_[:thick] if rng.random() < 0.4 else np.s_[-thick:] if rng.random() < 0.6 else np.s_[:, :thick]
            canvas[edge] = colour
        return canvas, light

    def _font(self, size: int, title: bool = False):
        from PIL import ImageFont

        return ImageFont.truetype(self.title_face if title else self.face, size)

    def slide(self, rng) -> list[np.ndarray]:
        """-> the builds of a new slide, one to six pictures; each holds all that the one before held, and more."""
        from PIL import Image, ImageDraw

        picture = Image.fromarray(self.background)
        pen = ImageDraw.Draw(picture)
        layout = str(rng.choice(self.layouts))
        y = self.top
        if layout != "quote" and rng.random() < 0.92:
            size = int(self.size * rng.uniform(1.25, 1.7))
            self._line(pen, _words(rng, self.script, int(rng.integers(1, 5))), y, size, self.accent, title=True)
            y += int(size * 1.7)
        pieces = getattr(self, f"_{layout}")(rng, y)
        builds, hold = [], 1 if rng.random() < 0.4 else len(pieces)
        for k, piece in enumerate(pieces):
            piece(pen, picture)
            if k + 1 == len(pieces) or (hold > 1 and rng.random() < 0.8):
                builds.append(np.asarray(picture).copy())
        return builds[-6:] if len(builds) <= 6 else [*builds[:5], builds[-1]]

    def _line(self, pen, text: str, y: int, size: int, colour, *, x: int | None = None, title: bool = False) -> None:
        font = self._font(size, title)
        if x is None:
            x = self.left if not self.centred else int((SIZE[1] - pen.textlength(text, font=font)) / 2)
        pen.text((x, y), text, fill=colour, font=font)

    def _bullets(self, rng, y: int, *, x: int | None = None, most: int = 8) -> list:
        pieces = []
        for k in range(int(rng.integers(2, most + 1))):
            step = int(self.size * rng.uniform(1.4, 2.1))
            if y + step > SIZE[0] - 10:
                break
            mark = {"1": f"{k + 1}. ", "": ""}.get(self.mark, f"{self.mark} ")
            text, at = mark + _words(rng, self.script, int(rng.integers(2, 9 if x is None else 4))), y
            pieces.append(lambda pen, picture, text=text, at=at: self._line(pen, text, at, self.size, self.ink, x=x))
            y += step
        return pieces

    def _columns(self, rng, y: int) -> list:
        return self._bullets(rng, y, x=self.left, most=6) + self._bullets(rng, y, x=SIZE[1] // 2 + 10, most=6)

    def _picture(self, rng, y: int) -> list:
        from PIL import Image

        photo = Image.fromarray(self.photos[rng.integers(len(self.photos))])
        photo = photo.crop((0, 0, photo.width * 2 // 3, photo.height)).resize((int(rng.integers(180, 300)), int(rng.integers(140, 240))))
        x = int(rng.choice([self.left, SIZE[1] - photo.width - 20]))
        text = self._bullets(rng, y, x=self.left if x > SIZE[1] // 2 - 40 else SIZE[1] // 2 + 20, most=5)
        return [lambda pen, picture: picture.paste(photo, (x, min(y, SIZE[0] - photo.height))), *text]

    def _quote(self, rng, y: int) -> list:
        size, pieces, y = int(self.size * rng.uniform(1.3, 2)), [], int(SIZE[0] * rng.uniform(0.2, 0.4))
        for _ in range(int(rng.integers(1, 5))):
            text = _words(rng, self.script, int(rng.integers(2, 5)))
            pieces.append(lambda pen, picture, text=text, at=y: self._line(pen, text, at, size, self.ink, title=True))
            y += int(size * 1.5)
        return [lambda pen, picture: [piece(pen, picture) for piece in pieces]]

    def _table(self, rng, y: int) -> list:
        rows, columns = int(rng.integers(3, 7)), int(rng.integers(2, 5))
        high, wide = (SIZE[0] - y - 15) // rows, (SIZE[1] - 2 * self.left) // columns
        cells = [[_words(rng, self.script, 1)[:9] for _ in range(columns)] for _ in range(rows)]

        def draw(pen, picture):
            for r in range(rows):
                for c in range(columns):
                    x, top = self.left + c * wide, y + r * high
                    pen.rectangle((x, top, x + wide, top + high), outline=self.ink, fill=self.accent if not r else None)
                    self._line(pen, cells[r][c], top + 4, min(self.size, high - 6), self.ink, x=x + 5)

        return [draw]

    def _code(self, rng, y: int) -> list:
        pieces = []
        while y < SIZE[0] - self.size * 1.4:
            indent = 18 * int(rng.integers(0, 4))
            text = _words(rng, "latin", int(rng.integers(1, 6)))
            colour = self.accent if rng.random() < 0.3 else self.ink
            pieces.append(lambda pen, picture, t=text, at=y, x=self.left + indent, c=colour: self._line(pen, t, at, self.size - 2, c, x=x))
            y += int(self.size * 1.25)
        return pieces or self._quote(rng, y)

    def _chart(self, rng, y: int) -> list:
        bars = rng.uniform(0.1, 1, int(rng.integers(3, 9)))
        bottom, wide = SIZE[0] - 25, (SIZE[1] - 2 * self.left) // len(bars)

        def bar(k: int, share: float):
            x = self.left + k * wide
            return lambda pen, picture: pen.rectangle((x, bottom - int(share * (bottom - y)), x + int(wide * 0.7), bottom), fill=self.accent)

        return [bar(k, float(share)) for k, share in enumerate(bars)]


@dataclass(frozen=True)
class Head:
    """A speaker in a corner: a real clip, or a drawn head that nods. `place` is (top, left, height, width) in pixels."""

    clip: np.ndarray | None  # (m, H, W, 3) uint8 at 4 fps
    place: tuple[int, int, int, int]
    round: bool
    phase: float
    colours: tuple[tuple[int, int, int], ...]

    def paste(self, frame: np.ndarray, t: float) -> None:
        import cv2

        top, left, tall, wide = self.place
        if self.clip is not None:
            i = int((t + self.phase) * 4) % (2 * len(self.clip) - 2)
            picture = self.clip[i if i < len(self.clip) else 2 * len(self.clip) - 2 - i]
            side = min(picture.shape[:2])
            picture = cv2.resize(picture[:side, (picture.shape[1] - side) // 2 :][:, :side], (wide, tall), interpolation=cv2.INTER_AREA)
        else:
            picture = self._drawn(t + self.phase, tall, wide)
        if self.round:
            mask = np.zeros((tall, wide), np.uint8)
            cv2.ellipse(mask, (wide // 2, tall // 2), (wide // 2 - 1, tall // 2 - 1), 0, 0, 360, 255, -1, cv2.LINE_AA)
            blend = mask[..., None].astype(np.float32) / 255
            picture = (picture * blend + frame[top : top + tall, left : left + wide] * (1 - blend)).astype(np.uint8)
        frame[top : top + tall, left : left + wide] = picture

    def _drawn(self, t: float, tall: int, wide: int) -> np.ndarray:
        import cv2

        wall, skin, coat = self.colours
        picture = np.full((tall, wide, 3), wall, np.uint8)
        x = int(wide * (0.5 + 0.07 * np.sin(1.3 * t) + 0.04 * np.sin(3.1 * t)))
        y = int(tall * (0.42 + 0.03 * np.sin(2.3 * t)))
        cv2.ellipse(picture, (x, tall), (int(wide * 0.42), int(tall * 0.36)), 0, 0, 360, coat, -1, cv2.LINE_AA)
        cv2.ellipse(picture, (x, y), (int(wide * 0.17), int(tall * 0.24)), 0, 0, 360, skin, -1, cv2.LINE_AA)
        cv2.ellipse(picture, (x, y + int(tall * 0.12)), (int(wide * 0.06), int(tall * 0.015 * (2 + np.sin(9 * t)))), 0, 0, 360, (120, 30, 30), -1)
        return picture


def random_head(rng, clips: list[np.ndarray]) -> Head:
    tall = int(rng.integers(60, 130))
    wide = int(tall * rng.choice([1.0, 1.0, 1.33, 1.6]))
    margin = int(rng.integers(0, 14))
    top = margin if rng.random() < 0.4 else SIZE[0] - tall - margin
    left = margin if rng.random() < 0.25 else SIZE[1] - wide - margin
    clip = clips[rng.integers(len(clips))] if clips and rng.random() < 0.6 else None
    colours = tuple(tuple(int(c) for c in rng.integers(20, 230, 3)) for _ in range(3))
    return Head(clip, (top, left, tall, wide), bool(rng.random() < 0.3), float(rng.uniform(0, 20)), colours)
