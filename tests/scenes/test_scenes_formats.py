"""Every format of scenes, read back by the program or library that it is made for, or by the numbers of its standard."""

import csv
import io
import json
import random
import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise
from urllib.parse import unquote_to_bytes, urlsplit
from xml.etree import ElementTree

import av
import opentimelineio as otio
import pytest
import webvtt

from mambamia_cli.errors import UsageError
from mambamia_cli.records import SamplingRecord, Scene, ScenesRecord, VideoRecord
from mambamia_cli.scenes import formats
from mambamia_cli.scenes.formats import moments, render

NTSC, FILM, DOUBLE = Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60000, 1001)
NASTY = 'a=b; #c\\d "e" \'f\' <g> & --> h\ni é 漢字 👩‍🚀'
WRITERS = [name for name, one in formats.FORMATS.items() if one.writer]


def record(cuts=(), length=10, fps="25/1", *, name="/films/a.mp4", title=None, titles=None, start=0, **video):
    """Scenes of [start, length) at the cuts; times are the floats that a real record holds."""
    edges = [start, *cuts, length]
    scenes = tuple(Scene(n, float(a), float(b), 0.0, title=titles[n - 1] if titles else None) for n, (a, b) in enumerate(pairwise(edges), 1))
    seen = VideoRecord(name, title=title, duration=float(length), fps=fps, width=1280, height=720, **video)
    return ScenesRecord(seen, SamplingRecord("fps"), scenes, (), range=(float(start), float(length)))


def at(*frames, fps=NTSC):
    return [frame / fps for frame in frames]


def text(name, /, *args, **more):
    return render(record(*args, **more), name)[0]


def doubts(name, /, *args, **more):
    return render(record(*args, **more), name)[1]


# Exact times


@pytest.mark.parametrize("fps", [NTSC, FILM, DOUBLE, Fraction(25), Fraction(24), Fraction(25, 2), Fraction(144)])
def test_floats_of_a_record_are_the_rational_times_they_stand_for(fps):
    for frame in random.Random(0).sample(range(int(fps * 4 * 3600)), 2000):
        assert moments.exact(float(frame / fps)) == frame / fps
        assert moments.frame_at(moments.exact(float(frame / fps)), fps) == frame


@pytest.mark.parametrize(
    "stated, meant",
    [("2997/100", NTSC), ("30000/1001", NTSC), ("23.98", FILM), ("59.94", DOUBLE), ("25", 25), ("30", 30), ("25/2", Fraction(25, 2)), (None, 25)],
)
def test_a_rounded_rate_is_taken_for_the_one_it_means(stated, meant):
    assert moments.rate(record(fps=stated)) == meant


@pytest.mark.parametrize("own, used", [("15", 30), ("25/2", 25), ("12", 24), ("10", 30), ("20", 60), ("35", 48), ("240", 120)])
def test_a_rate_no_editor_knows_becomes_one_that_holds_its_frames_and_is_said(own, used):
    rate, said = moments.timeline_rate(record(fps=own))
    assert rate == used and len(said) == 1 and str(used) in said[0]


# Timecode: known numbers of SMPTE 12M, and opentimelineio's as the reference


@pytest.mark.parametrize(
    "frame, rate, expected",
    [
        (0, NTSC, "00:00:00;00"), (1799, NTSC, "00:00:59;29"), (1800, NTSC, "00:01:00;02"), (17981, NTSC, "00:09:59;29"), (17982, NTSC, "00:10:00;00"),
        (19782, NTSC, "00:11:00;02"), (107892, NTSC, "01:00:00;00"), (2589407, NTSC, "23:59:59;29"), (2589408, NTSC, "00:00:00;00"),
        (3600, DOUBLE, "00:01:00;04"), (35964, DOUBLE, "00:10:00;00"), (215784, DOUBLE, "01:00:00;00"),
        (86400, FILM, "01:00:00:00"), (90000, Fraction(25), "01:00:00:00"), (1800, Fraction(30), "00:01:00:00"),
    ],
)  # fmt: skip
def test_timecode_of_known_frames(frame, rate, expected):
    assert moments.smpte(frame, rate) == expected


@pytest.mark.parametrize("rate", [NTSC, DOUBLE, FILM, Fraction(25), Fraction(30)])
def test_timecode_is_what_opentimelineio_makes_of_the_frame(rate):
    frames = [*range(4000), *random.Random(1).sample(range(int(rate * 86400) - 200), 4000)]
    for frame in frames:
        theirs = otio.opentime.RationalTime(frame, float(rate)).to_timecode(float(rate), drop_frame=moments.drops(rate))
        assert moments.smpte(frame, rate) == theirs, frame


# CSV


def test_csv_is_byte_for_byte_what_pyscenedetect_writes():
    # What scenedetect 0.7.2, detect-content list-scenes, wrote of videos with these cuts.
    assert text("csv", (2.0, 4.4, 6.0), 8.0) == (
        "Timecode List:,00:00:02.000,00:00:04.400,00:00:06.000\n"
        "Scene Number,Start Frame,Start Timecode,Start Time (seconds),End Frame,End Timecode,End Time (seconds),"
        "Length (frames),Length (timecode),Length (seconds)\n"
        "1,1,00:00:00.000,0.000,50,00:00:02.000,2.000,50,00:00:02.000,2.000\n"
        "2,51,00:00:02.000,2.000,110,00:00:04.400,4.400,60,00:00:02.400,2.400\n"
        "3,111,00:00:04.400,4.400,150,00:00:06.000,6.000,40,00:00:01.600,1.600\n"
        "4,151,00:00:06.000,6.000,200,00:00:08.000,8.000,50,00:00:02.000,2.000\n"
    )
    assert text("csv", at(60, 132, 180), at(240)[0], "30000/1001").splitlines()[2:4] == [
        "1,1,00:00:00.000,0.000,60,00:00:02.002,2.002,60,00:00:02.002,2.002",
        "2,61,00:00:02.002,2.002,132,00:00:04.404,4.404,72,00:00:02.402,2.402",
    ]


def test_a_variable_rate_counts_frames_at_its_average_as_pyscenedetect_does():
    rows = list(csv.reader(io.StringIO(text("csv-table", (1.0, 4.5, 6.5), 8.82, "5000/441", vfr=True))))
    assert [(row[1], row[4]) for row in rows[1:]] == [("1", "11"), ("12", "51"), ("52", "74"), ("75", "100")]
    assert "variable frame rate" in doubts("csv", (1.0,), vfr=True)[0]


def test_one_scene_and_none():
    assert text("csv").splitlines()[0] == "Timecode List:" and len(text("csv").splitlines()) == 3
    none = ScenesRecord(VideoRecord("a.mp4"), SamplingRecord("fps"), (), (), range=(0.0, 0.0))
    for name in WRITERS:
        assert isinstance(render(none, name)[0], str)
    assert ElementTree.fromstring(render(none, "fcpxml")[0]).find(".//spine") is not None
    assert len(webvtt.from_string(render(none, "vtt")[0])) == 0
    assert otio.adapters.read_from_string(render(none, "otio")[0]).duration().value == 0


# Chapters


def chapters_read_by_libav(path) -> list[tuple[Fraction, Fraction, str]]:
    with av.open(str(path)) as container:
        return [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in container.chapters()]


@pytest.mark.parametrize("fps, cuts", [("30000/1001", at(1, 7, 60, 17982)), ("25/1", [Fraction(2, 25), Fraction(2)])])
def test_ffmetadata_is_read_exactly_by_libav(tmp_path, fps, cuts):
    rate, length = Fraction(fps), Fraction(18000) / Fraction(fps)
    names = [NASTY, *(f"scene {n}" for n in range(len(cuts)))]
    path = tmp_path / "a.txt"
    path.write_text(text("ffmetadata", cuts, length, fps, titles=names), "utf-8")
    found = chapters_read_by_libav(path)
    assert [start for start, _, _ in found] == [0, *cuts] and [end for _, end, _ in found] == [*cuts, length]
    assert [title for *_, title in found] == names and rate * length == 18000


def test_ffmetadata_is_read_by_ffprobe_too(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(text("ffmetadata", at(60), at(240)[0], "30000/1001", titles=[NASTY, "two"]), "utf-8")
    # The library that ffprobe is made of must agree; where the program is at hand, it must as well.
    read = [(float(start), title) for start, _, title in chapters_read_by_libav(path)]
    assert read == [(0.0, NASTY), (2.002, "two")]
    if (ffprobe := shutil.which("ffprobe")) is not None:
        done = subprocess.run([ffprobe, "-v", "error", "-show_chapters", "-of", "json", str(path)], capture_output=True, text=True, check=True)
        assert [(float(one["start_time"]), one["tags"]["title"]) for one in json.loads(done.stdout)["chapters"]] == read


def test_chapters_are_on_a_players_clock_where_the_file_begins_before_the_picture(tmp_path):
    made = record((2.0,), 8.0, offset=3.6)
    path = tmp_path / "a.txt"
    path.write_text(render(made, "ffmetadata")[0])
    assert [start for start, *_ in chapters_read_by_libav(path)] == [Fraction(18, 5), Fraction(28, 5)]
    assert "CHAPTER02=00:00:05.600" in render(made, "ogm")[0] and "00:00:05.600 -->" in render(made, "vtt")[0]
    assert "00:00:02.000" in render(made, "csv")[0]  # frames are counted from the first one all the same


def test_ogm_numbers_and_hours_grow_past_two_digits():
    lines = text("ogm", range(1, 120), 100 * 3600 + 1).splitlines()
    assert lines[:4] == ["CHAPTER01=00:00:00.000", "CHAPTER01NAME=Scene 1", "CHAPTER02=00:00:01.000", "CHAPTER02NAME=Scene 2"]
    assert lines[-2:] == ["CHAPTER120=00:01:59.000", "CHAPTER120NAME=Scene 120"]
    assert text("ogm", (99 * 3600 + 59.9996, 100 * 3600 + 0.0004), 101 * 3600).splitlines()[2::2] == ["CHAPTER02=99:01:00.000", "CHAPTER03=100:00:00.000"]
    assert text("ogm", titles=[NASTY]).splitlines() == ["CHAPTER01=00:00:00.000", "CHAPTER01NAME=" + NASTY.replace("\n", " ")]


def test_vtt_is_read_by_a_parser(tmp_path):
    made = text("vtt", at(60, 132), at(240)[0], "30000/1001", titles=[NASTY, "<b>two</b>", "three"])
    cues = webvtt.from_string(made)
    assert [(cue.identifier, cue.start, cue.end) for cue in cues] == [
        ("1", "00:00:00.000", "00:00:02.002"), ("2", "00:00:02.002", "00:00:04.404"), ("3", "00:00:04.404", "00:00:08.008"),
    ]  # fmt: skip
    assert cues[1].raw_text == "&lt;b&gt;two&lt;/b&gt;" and cues[0].raw_text.count("\n") == 0 and "-->" not in cues[0].raw_text
    path = tmp_path / "a.vtt"
    path.write_text(made, "utf-8")
    with av.open(str(path)) as container:
        times = [(p.pts * p.time_base, p.duration * p.time_base) for p in container.demux() if p.size]
    assert times == [(0, Fraction("2.002")), (Fraction("2.002"), Fraction("2.402")), (Fraction("4.404"), Fraction("3.604"))]


def test_vtt_over_a_hundred_hours_and_a_scene_shorter_than_a_millisecond():
    cues = webvtt.from_string(text("vtt", (0.0002,), 100 * 3600 + 1))
    assert (cues[0].start, cues[0].end, cues[1].end) == ("00:00:00.000", "00:00:00.001", "100:00:01.000")


def listed(made: str) -> list[tuple[int, str]]:
    """The lines of a description as YouTube understands them: (seconds, title)."""
    found = []
    for line in made.splitlines():
        stamp, title = line.split(" ", 1)
        seconds = 0
        for part in stamp.split(":"):
            seconds = seconds * 60 + int(part)
        found.append((seconds, title))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_youtube_gets_what_it_demands_whatever_the_scenes(seed):
    luck = random.Random(seed)
    length = luck.choice((45, 700, 9000))
    cuts = sorted(luck.sample(range(1, length * 25), min(length // 3, 200)))
    made, said = render(record([cut / 25 for cut in cuts], length), "youtube")
    chapters = listed(made)
    starts = [second for second, _ in chapters]
    assert starts[0] == 0 and all(b - a >= 10 for a, b in pairwise([*starts, length]))
    assert set(starts[1:]) <= {int(cut / 25) for cut in cuts} and "were joined to their neighbours" in said[0]


def test_youtube_says_when_too_few_chapters_are_left_and_drops_brackets():
    assert "fewer than 3" in doubts("youtube", (5,), 60)[-1] and doubts("youtube", (20, 40), 60) == []
    assert text("youtube", (20, 3700), 4000, titles=["<a>", "b", "c"]) == "0:00 ‹a›\n0:20 b\n1:01:40 c\n"
    assert text("youtube", (90, 120), 200, start=60) == "0:00 Scene 1\n1:30 Scene 2\n2:00 Scene 3\n"


# Editing programs


def edl_clips(made: str, rate) -> list[tuple[str, int, int]]:
    timeline = otio.adapters.read_from_string(made, "cmx_3600", rate=float(rate))
    track = next(track for track in timeline.tracks if track.kind == "Video")
    return [(clip.name, int(clip.source_range.start_time.value), int(clip.source_range.duration.value)) for clip in track]


@pytest.mark.parametrize("fps", [NTSC, DOUBLE, FILM, Fraction(25), Fraction(24), Fraction(30)])
def test_an_edl_read_by_opentimelineio_has_the_frames_of_the_scenes(fps):
    frames = [0, 1, 1799, 1800, 17981, 17982, 20000, 107892, 200000]
    made = text("edl", [frame / fps for frame in frames[1:-1]], frames[-1] / fps, str(fps), audio=True)
    assert edl_clips(made, fps) == [("a.mp4", a, b - a) for a, b in pairwise(frames)]
    assert ("FCM: DROP FRAME" in made) == (fps in (NTSC, DOUBLE)) and "AA/V" in made


def test_an_edl_of_a_range_begins_its_record_side_at_zero():
    rows = [line.split() for line in text("edl", (70.0,), 80.0, start=60.0).splitlines() if " C " in line]
    assert rows[0][4:] == ["00:01:00:00", "00:01:10:00", "00:00:00:00", "00:00:10:00"]
    assert rows[1][4:] == ["00:01:10:00", "00:01:20:00", "00:00:10:00", "00:00:20:00"]


def test_an_edl_keeps_to_one_line_a_name_and_says_what_the_standard_cannot_hold():
    made = text("edl", name=f"/films/{NASTY}.mp4", title=f"{NASTY}.mp4")
    assert edl_clips(made, 25)[0][0] == NASTY.replace("\n", " ") + ".mp4"
    assert len(made.splitlines()[0]) <= len("TITLE: ") + 70
    assert any("999" in one for one in doubts("edl", range(1, 1000), 2000))
    assert any("24 hours" in one for one in doubts("edl", (5,), 25 * 3600))
    assert any("variable" in one for one in doubts("edl", (5,), vfr=True))


@pytest.mark.parametrize("audio", [True, False])
def test_otio_is_read_by_opentimelineio(audio):
    frames = [0, 60, 17982, 18000]
    made = text("otio", at(*frames[1:-1]), at(frames[-1])[0], "30000/1001", audio=audio, titles=[NASTY, "b", "c"], name=f"/films/{NASTY}.mp4")
    timeline = otio.adapters.read_from_string(made)
    assert [track.kind for track in timeline.tracks] == (["Video", "Audio"] if audio else ["Video"])
    for track in timeline.tracks:
        spans = [clip.source_range for clip in track]
        assert [(span.start_time.value, span.end_time_exclusive().value) for span in spans] == list(pairwise(frames))
        assert {span.start_time.rate for span in spans} == {float(NTSC)} and track[0].name == NASTY.replace("\n", " ")
        media = track[0].media_reference
        assert unquote_to_bytes(urlsplit(media.target_url).path).decode() == f"/films/{NASTY}.mp4" and media.available_range.duration.value == 18000


def test_otio_without_its_package_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(formats.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package opentimelineio; install it: pip install 'mambamia-cli\[otio\]'"):
        formats.check("otio")


def seconds(value: str) -> Fraction:
    assert value.endswith("s")
    return Fraction(value[:-1])


@pytest.mark.parametrize("fps", [NTSC, DOUBLE, FILM, Fraction(25), Fraction(15)])
def test_fcpxml_is_whole_frames_end_to_end(fps):
    frames = [0, 7, 60, 1800, 18000]
    made = record([frame / fps for frame in frames[1:-1]], frames[-1] / fps, str(fps), audio=True, titles=[NASTY, "b", "c", "d"], name="/films/a&<'\".mp4")
    root = ElementTree.fromstring(render(made, "fcpxml")[0])
    length = seconds(root.find(".//format").get("frameDuration"))
    own = 1 / fps if fps != 15 else Fraction(1, 30)
    assert root.get("version") == "1.9" and length == own
    clips, reached = root.findall(".//spine/asset-clip"), Fraction(0)
    for clip, (first, after) in zip(clips, pairwise(frames), strict=True):
        offset, start, duration = (seconds(clip.get(name)) for name in ("offset", "start", "duration"))
        assert offset == reached and (start, duration) == (first / fps, (after - first) / fps)
        assert all((moment / length).denominator == 1 for moment in (offset, start, duration))
        reached += duration
    assert clips[0].get("name") == NASTY.replace("\n", " ")
    assert seconds(root.find(".//sequence").get("duration")) == reached == seconds(root.find(".//asset").get("duration"))
    assert {clip.get("ref") for clip in clips} == {root.find(".//asset").get("id")} and root.find(".//asset").get("hasAudio") == "1"
    assert urlsplit(root.find(".//media-rep").get("src")).path == "/films/a%26%3C%27%22.mp4"
    assert root.find(".//sequence").get("tcFormat") == ("DF" if fps in (NTSC, DOUBLE) else "NDF")


def test_fcpxml_is_read_by_opentimelineios_adapter():
    made = text("fcpxml", (2.0, 4.4), 8.0, titles=["a", "b", "c"])  # 25 a second: the adapter knows whole rates only
    found = otio.adapters.read_from_string(made, "fcpx_xml")
    clips = [clip for clip in found[0].tracks[0] if isinstance(clip, otio.schema.Clip)]
    assert [(clip.name, clip.source_range.start_time.value, clip.source_range.duration.value) for clip in clips] == [
        ("a", 0, 50), ("b", 50, 60), ("c", 110, 90),
    ]  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_a_name_that_is_no_text_breaks_no_format(name):
    made = render(record((5.0,), name="/films/bad\udcff\x01\x0b\ufffe.mp4", title="bad\udcff\x01\x0b\ufffe.mp4", titles=["x\udcff\x00\x1b[2J", "y"]), name)[0]
    made.encode("utf-8")
    assert not {c for c in made if ord(c) < 32} - {"\n"}


def test_a_video_from_the_web_keeps_its_address():
    assert 'src="https://example.org/v?a=1&amp;b=2"' in text("fcpxml", name="https://example.org/v?a=1&b=2")
