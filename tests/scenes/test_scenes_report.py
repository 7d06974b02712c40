"""The page of a scenes record, read without a browser: what it lets load, what it holds, and that names stay names."""

import base64
import hashlib
import html.parser
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from fixtures.records import scenes_record

from mambamia_cli.records import Scene
from mambamia_cli.scenes.report import address, page, thumb_limits
from mambamia_cli.video.jpeg import encode

NASTY = """</script><script>alert(1)</script><!-- "q" 'a' & <b>&amp; é 漢 \u2028 {{data}} {{script}} \udc80.mp4"""


class Parsed(html.parser.HTMLParser):
    """Tags with their attributes, and the text of each script and style, as a browser takes them apart."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.blocks, self._in = [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style", "title"):
            self.blocks.append([tag, dict(attrs), ""])
            self._in = tag

    def handle_endtag(self, tag):
        self._in = None if tag == self._in else self._in

    def handle_data(self, data):
        if self._in:
            self.blocks[-1][2] += data

    def block(self, tag, **attrs):
        return [text for t, a, text in self.blocks if t == tag and all(a.get(k) == v for k, v in attrs.items())]

    def island(self, name):
        [text] = self.block("script", id=name)
        return json.loads(text)


def parsed(record, target="out/page.html", **more) -> Parsed:
    return Parsed(page(record, Path(target), **more).decode("utf-8"))


@pytest.fixture
def record():
    return scenes_record("film.mp4", [2.0, 4.4, 6.0], 8.0)


def test_the_policy_allows_the_two_blocks_by_their_hashes_and_nothing_from_elsewhere(record):
    found = parsed(record)
    [policy] = [a["content"] for t, a in found.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    rules = {name: words for name, *words in (rule.split() for rule in policy.split(";"))}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert rules["img-src"] == ["data:"] and set(rules["media-src"]) == {"'self'", "file:", "blob:"}
    [style], [script] = found.block("style"), [text for t, a, text in found.blocks if t == "script" and "type" not in a]
    for rule, text in (("style-src", style), ("script-src", script)):
        assert rules[rule] == [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"]


def test_nothing_in_the_page_points_outside(record, numbered):
    text = page(record, Path("page.html"), video=numbered.path).decode()
    assert "://" not in re.sub(r"https?://www\.w3\.org/\S*", "", text)
    found = Parsed(text)
    addresses = [a[k] for _, a in found.tags for k in ("src", "href", "action", "data") if k in a]
    assert all(value.startswith("data:") or value.endswith("numbered.mp4") for value in addresses) and len(addresses) == 2
    assert not [a for _, a in found.tags if any(k.startswith("on") or k == "style" for k in a)]


def test_names_and_titles_stay_text(record):
    plain = parsed(record)
    record = replace(record, video=replace(record.video, title=NASTY), warnings=(NASTY,), scenes=tuple(replace(s, title=NASTY) for s in record.scenes))
    found = parsed(record)
    assert [t for t, _ in found.tags if t == "script"] == ["script"] * 3 and len(found.block("script")) == 3
    assert found.block("title") == ["Scenes of " + found.island("data")["name"]]
    assert found.island("data")["name"] == NASTY.replace("\u2028", "\ufffd").replace("\udc80", "\ufffd")
    extra = {"bdi", "p"}  # a title's own element and the warning's
    assert [t for t, _ in found.tags if t not in extra] == [t for t, _ in plain.tags if t not in extra]
    assert found.block("script")[1] == plain.block("script")[1]  # the placeholders in a name are not filled


def test_a_change_of_direction_cannot_disguise_a_name_but_joiners_may_stay(record):
    record = replace(record, video=replace(record.video, title="a\u202egpj.exe \u200d"))
    assert parsed(record).island("data")["name"] == "a\ufffdgpj.exe \u200d"


def test_the_data_is_the_record(record):
    found = parsed(record, thumbs=[b"\xff\xd8one", None, b"\xff\xd8three", b"\xff\xd8four"])
    data = found.island("data")
    assert data["scenes"] == [[s.start, s.end, s.peak] for s in record.scenes]
    assert (data["start"], data["end"], data["threshold"], data["codec"]) == (0, 8, 1, "h264")
    assert [base64.b64decode(t) if t else None for t in found.island("thumbs")] == [b"\xff\xd8one", None, b"\xff\xd8three", b"\xff\xd8four"]


def test_a_row_a_scene_tells_number_time_length_and_kind(record):
    labels = [a["aria-label"] for t, a in parsed(record).tags if t == "button"]
    assert labels == ["Scene 1, from 00:00.000, lasts 2.0 s", "Scene 2, from 00:02.000, lasts 2.4 s, cut",
                      "Scene 3, from 00:04.400, lasts 1.6 s, dissolve 0.4 s", "Scene 4, from 00:06.000, lasts 2.0 s, cut"]  # fmt: skip
    assert [a["tabindex"] for t, a in parsed(record).tags if t == "button"] == ["0", "-1", "-1", "-1"]


def test_a_level_above_shots_has_no_threshold_to_move(record):
    assert parsed(replace(record, level="chapter")).island("data")["threshold"] is None


@pytest.mark.parametrize("name", ["a b.mp4", "50%#1?x=y&z.mp4", "漢é.mp4", "a:b.mp4", "quote\"'.mp4", "<i>.mp4", "x\\y.mp4"])
def test_the_address_of_the_video_leads_back_to_it(tmp_path, name):
    for folder in (tmp_path, tmp_path / "a #1" / "b", tmp_path / "other"):
        folder.mkdir(parents=True, exist_ok=True)
        link = address(folder / name, tmp_path / "other" / "page.html")
        assert re.fullmatch(r"[A-Za-z0-9%/._~-]+", link) and not link.startswith("/")
        assert os.path.normpath(tmp_path / "other" / unquote(link)) == str(folder / name)
    assert address(tmp_path / "other" / "x.mp4", tmp_path / "other" / "page.html") == "./x.mp4"


def test_a_name_that_is_not_text_has_an_address(tmp_path):
    assert address(tmp_path / os.fsdecode(b"\xff.mp4"), tmp_path / "page.html") == "./%FF.mp4"


def test_the_page_counts_from_where_a_player_does(late_start, numbered, record):
    assert parsed(record, video=late_start.path).island("data")["offset"] == pytest.approx(3.6, abs=0.05)
    assert parsed(record, video=numbered.path).island("data")["offset"] == 0


def test_three_thousand_scenes_of_noise_stay_below_thirty_megabytes():
    size, most = thumb_limits(3000)
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    thumb = encode(noise, most=most)
    record = scenes_record("film.mp4", np.arange(3, 9000, 3), 9000)
    assert len(record.scenes) == 3000
    assert len(page(record, Path("page.html"), thumbs=[thumb] * 3000)) < 30e6
    assert thumb_limits(10)[0] > size > thumb_limits(100_000)[0]


def test_odd_records_have_a_page():
    base = scenes_record("film.mp4", [], 8.0)
    for odd in (replace(base, delta=()), replace(base, delta=((0.0, 1.0),)), replace(base, tool=None, threshold=None, range=None),
                replace(base, scenes=(Scene(1, 0.0, 0.0, 0.0),), range=(0.0, 0.0)),
                replace(base, video=replace(base.video, fps=None, width=None, codec=None, title=None))):  # fmt: skip
        assert len([t for t, _ in parsed(odd).tags if t == "button"]) == 1


def test_the_same_record_gives_the_same_page(record):
    assert page(record, Path("a.html")) == page(record, Path("a.html"))
