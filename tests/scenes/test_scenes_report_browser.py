"""The page of a scenes record in headless Chromium: what a click and a key do, what it shows, and that it reaches for nothing."""

import base64
import io
import os
import shutil
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fixtures import videos
from fixtures.records import marked_record, scenes_record
from PIL import Image

from mambamia_cli.scenes.report import page, thumb_limits
from mambamia_cli.scenes.thumbs import pictures
from mambamia_cli.video.jpeg import encode, fit

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SEEK = """() => { const v = document.querySelector('video'); window.seen = []; v.addEventListener('seeked', () => window.seen.push(v.currentTime)); }"""
STILL = """() => { const v = document.querySelector('video'); v.play = () => Promise.resolve(); v.controls = false; }"""
LANDED = """([n]) => new Promise((done, fail) => { const v = document.querySelector('video'); setTimeout(() => fail('no seek'), 15000);
  (function ask() { window.seen.length > n && !v.seeking ? done(v.pause()) : setTimeout(ask, 20); })(); })"""
LOADED = """v => v.readyState >= 2 || new Promise((done, fail) => { v.addEventListener('loadeddata', () => done(true)); setTimeout(() => fail('not loaded'), 15000); })"""
STATE = """() => { const v = document.querySelector('video'); return {time: v.currentTime, paused: v.paused, ready: v.readyState, width: v.videoWidth}; }"""
CONTRAST = """(query) => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const e = document.querySelector(query);
  let under = e;
  while (under && (rgb(getComputedStyle(under).backgroundColor)[3] ?? 1) === 0) under = under.parentElement;
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(rgb(getComputedStyle(under || document.body).backgroundColor))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@pytest.fixture(scope="module")
def chromium():
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"the page is not tried in a browser: none of {', '.join(NAMES)} is installed")
    from playwright.sync_api import sync_playwright  # with a browser there, a missing playwright is an error

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture
def show(chromium):
    """show(path, scheme=..., size=...) -> an open page. At the end it must have logged nothing and reached for nothing."""
    pages, troubles = [], []

    def start(path: Path, scheme="light", size=(1280, 800), *, expected=None, **more):
        opened = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, **more).new_page()
        opened.asked = []
        opened.on("console", lambda message: None if expected and expected in message.text else troubles.append(message.text))
        opened.on("pageerror", lambda error: troubles.append(str(error)))
        opened.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(path.as_uri())
        pages.append(opened)
        return opened

    yield start
    asked = [url for opened in pages for url in opened.asked]
    for opened in pages:
        opened.context.close()
    assert troubles == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


def write(record, folder: Path, video: Path | None = None, *, thumbs=None, name="page.html") -> Path:
    if thumbs is None and video is not None:
        thumbs = [encode(picture) for _, picture in pictures(video, record.scenes, (90, 160))]
    target = folder / name
    target.write_bytes(page(record, target, video=video, thumbs=thumbs))
    return target


@pytest.fixture
def film(tmp_path, numbered):
    """(record, page) of 100 numbered frames at 25 a second, in scenes that begin at frames 0, 23, 50 and 71."""
    record = scenes_record(numbered.path, [0.92, 2.0, 2.84], 4.0)
    return record, write(record, tmp_path, numbered.path)


def ready(shown) -> None:
    shown.locator("video").evaluate(LOADED)


def current(shown) -> int:
    return int(shown.locator("[aria-current]").get_attribute("id")[1:])


def focused(shown) -> str:
    return shown.evaluate("() => document.activeElement.id")


def frame_number(shown) -> int:
    """The number in the frame on screen, read off a screenshot."""
    picture = Image.open(io.BytesIO(shown.locator("video").screenshot())).convert("RGB")
    width = round(picture.height * 128 / 96)  # the picture without what stands beside it
    left = (picture.width - width) // 2
    return videos.read_number(np.asarray(picture.crop((left, 0, left + width, picture.height))))


def test_a_click_on_a_scene_plays_the_video_at_its_first_frame(film, show):
    record, path = film
    shown = show(path)
    ready(shown)
    shown.evaluate(SEEK)
    for index in (2, 1, 3):
        before = shown.evaluate("() => window.seen.length")
        shown.click(f"#s{index}")
        shown.evaluate(LANDED, [before])
        sought, start = shown.evaluate("() => window.seen.at(-1)"), record.scenes[index].start
        assert start <= sought < start + 0.25  # it plays on while it is asked
        assert current(shown) == index and focused(shown) == f"s{index}"


@pytest.mark.parametrize("name", ["numbered", "late_start"])
def test_the_frame_shown_is_the_scenes_first_one_whenever_the_picture_starts(name, request, tmp_path, show):
    video = request.getfixturevalue(name)
    first = 23
    record = scenes_record(video.path, [float(video.times[first])], float(video.times[-1]) + 0.04)
    shown = show(write(record, tmp_path, video.path))
    ready(shown)
    shown.evaluate(STILL)
    shown.evaluate(SEEK)
    shown.click("#s1")
    shown.evaluate(LANDED, [0])
    offset = 3.6 if name == "late_start" else 0
    assert shown.evaluate(STATE)["time"] == pytest.approx(float(video.times[first]) + offset, abs=0.01)
    for turn in range(75):  # it stands still; a busy machine paints it late, or not before it is asked again
        shown.locator("video").evaluate("(video, turn) => { video.style.outline = turn % 2 ? 'none' : '1px solid transparent' }", turn)
        shown.wait_for_timeout(200)
        if frame_number(shown) == first:
            break
    assert frame_number(shown) == first


def test_keys_go_through_the_scenes_play_and_pause(film, show):
    record, path = film
    shown = show(path)
    ready(shown)
    press = shown.keyboard.press
    for key, at in (("j", 1), ("j", 2), ("k", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", 3), ("j", 3), ("Home", 0), ("k", 0), ("j", 1), ("j", 2)):
        press(key)
        assert focused(shown) == f"s{at}", key
    assert shown.evaluate("() => [...document.querySelectorAll('.scene')].filter(b => b.tabIndex === 0).map(b => b.id)") == ["s2"]
    assert shown.evaluate("() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 }")
    assert shown.evaluate(STATE)["paused"]
    press("Enter")
    assert not shown.evaluate(STATE)["paused"] and shown.evaluate(STATE)["time"] >= record.scenes[2].start
    press(" ")
    state = shown.evaluate(STATE)
    assert state["paused"] and current(shown) >= 2
    press(" ")
    assert not shown.evaluate(STATE)["paused"]
    press(" ")
    shown.click("#s0")
    press(" ")
    at = shown.evaluate(STATE)["time"]
    press("ArrowRight")
    assert shown.evaluate(STATE)["time"] == pytest.approx(min(at + 5, 4.0), abs=0.3)


def test_the_curve_is_a_slider_that_pointer_and_keys_move(film, show):
    _, path = film
    shown = show(path)
    ready(shown)
    curve = shown.locator("#curve")
    box = curve.bounding_box()
    shown.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + 40)
    assert float(curve.get_attribute("aria-valuenow")) == pytest.approx(2.4, abs=0.02)
    assert shown.evaluate(STATE)["time"] == pytest.approx(2.4, abs=0.02)
    assert current(shown) == 2 and curve.get_attribute("aria-valuetext").endswith("scene 3")
    assert shown.locator("#tip").is_visible() and "scene 3" in shown.locator("#tip").inner_text()
    head = shown.locator("#head").bounding_box()
    assert head["x"] + 1 - box["x"] == pytest.approx(box["width"] * 0.6, abs=3)
    curve.focus()
    shown.keyboard.press("Home")
    shown.keyboard.press("Enter")  # the scene that was chosen, though the list has not the focus
    assert not shown.evaluate(STATE)["paused"] and current(shown) >= 2 and focused(shown) == "s2"
    shown.keyboard.press(" ")
    curve.focus()
    shown.keyboard.press("Home")
    assert current(shown) == 0 and float(curve.get_attribute("aria-valuenow")) == pytest.approx(0, abs=0.01)


def test_the_playhead_and_the_scene_follow_the_film(film, show):
    record, path = film
    shown = show(path)
    ready(shown)
    shown.click("#s0")
    deadline = time.monotonic() + 20
    while current(shown) == 0 and time.monotonic() < deadline:
        shown.wait_for_timeout(50)
    assert current(shown) >= 1 and float(shown.locator("#curve").get_attribute("aria-valuenow")) >= record.scenes[1].start


@pytest.mark.parametrize("name", ["<script>alert(1)<!--.mp4", "<!-- <script x.mp4", "q\"uo'te &amp; x.mp4", "50%41 #a ?b=c.mp4", "漢字 é \u202e.mp4", "a:b\\c.mp4"])
def test_any_name_is_shown_as_text_and_leads_to_its_video(name, numbered, tmp_path, show):
    folder = tmp_path / ("folder of " + name)
    folder.mkdir()
    video = folder / name
    shutil.copy(numbered.path, video)
    title = name + "</script><img src=x onerror=alert(1)>"
    record = scenes_record(video, [2.0], 4.0, title=title, scene_title=title)
    shown = show(write(record, tmp_path, video))
    ready(shown)
    assert shown.evaluate(STATE)["width"] == 128 and not shown.locator("#trouble").is_visible()
    wanted = title.replace("\u202e", "\ufffd")
    assert shown.locator("h1").text_content() == wanted and shown.title() == f"Scenes of {wanted}"
    assert shown.locator("#s1 .title").text_content() == wanted
    shown.click("#s1")  # the name has not swallowed the script either
    assert current(shown) == 1
    assert len([url for url in shown.asked if not url.startswith("data:") and url != (tmp_path / "page.html").as_uri()]) >= 1


def test_a_video_that_does_not_play_is_told_and_the_scenes_stay(text_named_mp4, numbered, tmp_path, show):
    record = scenes_record(text_named_mp4, [2.0], 4.0)
    target = tmp_path / "page.html"
    for source in (numbered.path.parent / "gone.mp4", text_named_mp4):
        link = os.path.relpath(source, tmp_path)
        target.write_bytes(page(record, target, thumbs=None).replace(b'<video id="video" ', f'<video id="video" src="{link}" '.encode()))
        shown = show(target, expected="ERR_FILE_NOT_FOUND")
        shown.locator("#trouble").wait_for(state="visible")
        assert "cannot play notes.mp4" in shown.locator("#reason").inner_text() and "h264" in shown.locator("#reason").inner_text()
        shown.click("#s1")
        assert current(shown) == 1


def test_without_a_video_one_can_be_chosen(numbered, tmp_path, show):
    record = scenes_record(numbered.path, [2.0], 4.0)
    shown = show(write(record, tmp_path, thumbs=None))
    assert "made without the video" in shown.locator("#reason").inner_text() and not shown.locator("video").is_visible()
    shown.click("#s1")
    shown.locator("#file").set_input_files(numbered.path)
    ready(shown)
    assert shown.evaluate(STATE)["time"] == pytest.approx(2.0, abs=0.02) and not shown.locator("#trouble").is_visible()


def test_light_and_dark_follow_the_system_and_are_readable(film, show):
    _, path = film
    backgrounds = []
    for scheme in ("light", "dark"):
        shown = show(path, scheme=scheme)
        backgrounds.append(shown.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        for query in ("h1", ".facts", "#s1 .n", "#s0 .end", "#s1 .kind", "#s1 .score", ".axis", ".keys", "footer", "#filtered"):
            assert shown.evaluate(CONTRAST, query) >= 4.5, (scheme, query)
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(15, 20, 27)"]


def test_a_higher_threshold_leaves_the_scenes_that_reach_it(tmp_path, show):
    """Of the scenes on the page: what the program would put in the place of one that is silenced has no picture here."""
    record = marked_record(120, 300.0)
    shown = show(write(record, tmp_path))
    for least in (1.0, 1.7, 2.6, 3.4, 1.2):
        shown.locator("#threshold").evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", least)
        shown.wait_for_timeout(150)
        kept = [s for s in record.scenes if s.n == 1 or s.peak >= least]
        wanted = [replace(s, end=after.start) for s, after in pairwise(kept)] + [replace(kept[-1], end=record.scenes[-1].end)]
        rows = shown.locator(".scenes li:not([hidden]) .scene")
        starts = shown.evaluate("() => [...document.querySelectorAll('.scenes li:not([hidden]) time')].map(t => t.textContent)")
        ends = shown.evaluate("() => [...document.querySelectorAll('.scenes li:not([hidden]) .end span')].map(t => t.textContent)")
        seconds = [[60 * int(t.split(":")[0]) + float(t.split(":")[1]) for t in column] for column in (starts, ends)]
        assert rows.count() == len(wanted) and len(wanted) > 1
        assert seconds[0] == pytest.approx([s.start for s in wanted], abs=0.001)
        assert seconds[1] == pytest.approx([s.end for s in wanted], abs=0.001)
        assert f"{len(wanted)} of {len(record.scenes)}" in shown.locator("#filtered").inner_text()
        assert shown.locator("#marks").get_attribute("d").count("M") == len(wanted) - 1


def test_three_thousand_scenes_open_at_once_and_decode_only_what_is_seen(tmp_path, show):
    size, most = thumb_limits(3000)
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    thumb = encode(noise, fit(noise.shape[:2], size), most=most)  # as large as a thumbnail may be
    record = scenes_record("film.mp4", np.arange(3, 9000, 3), 9000)
    path = write(record, tmp_path, thumbs=[thumb] * 3000)
    assert 15e6 < path.stat().st_size < 30e6
    began = time.monotonic()
    shown = show(path)
    assert time.monotonic() - began < 20  # 2 to 4 s on two busy cores
    assert shown.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime") < 6000
    drawn = shown.evaluate("() => [...document.querySelectorAll('.thumb img')].filter(i => i.src).length")
    assert 5 <= drawn <= 60
    shown.keyboard.press("End")
    shown.wait_for_timeout(500)
    assert focused(shown) == "s2999" and shown.locator("#s2999").is_visible()
    assert shown.locator("#s2999 img").evaluate("i => i.complete && i.naturalWidth") == 160
    assert shown.evaluate("() => [...document.querySelectorAll('.thumb img')].filter(i => i.src).length") <= 120


def test_thumbnails_are_those_of_their_scenes(film, show):
    _, path = film
    shown = show(path)
    shown.locator("#s3 img[src]").wait_for()
    for index, number in ((0, 7), (3, 81)):  # a third of a scene inside it
        data = shown.locator(f"#s{index} img").get_attribute("src").removeprefix("data:image/jpeg;base64,")
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert videos.read_number(picture) == pytest.approx(number, abs=1)


@pytest.mark.parametrize("width", [320, 420, 760, 1000, 1600])
def test_nothing_is_wider_than_the_window(width, tmp_path, numbered, show):
    name = "a_very_long_name_without_a_place_to_break_" * 4
    record = scenes_record(numbered.path, [0.92, 2.0, 2.84], 4.0, title=name + ".mp4", scene_title=name)
    record = replace(record, warnings=(name,))
    shown = show(write(record, tmp_path, numbered.path), size=(width, 700))
    assert shown.evaluate("() => document.documentElement.scrollWidth") <= width
    box = shown.locator("#s2").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
