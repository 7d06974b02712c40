"""`mambamia bench scenes`: scores are those of the markers, costs those of the commands, and a missing peer is a line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mambamia_cli.bench import scene_set, scene_tools, scenes
from mambamia_cli.bench.scene_tools import Run, Tool
from mambamia_cli.cli.app import run


def write_json(found):
    return lambda video, out: [sys.executable, "-c", f"open({str(out)!r}, 'w').write({json.dumps(found)!r})"]


def fake(name, found, package=None):
    return Tool(name, package, write_json(found), lambda out, fps: tuple(json.loads(out.read_text())))


@pytest.fixture
def made_set(tmp_path, three_cuts):
    """A set of seed 3 whose five videos are one small one, with its truth."""
    folder = tmp_path / "work" / "scenes-3"
    folder.mkdir(parents=True)
    for name in scene_set.NAMES:
        shutil.copy(three_cuts.path, folder / f"{name}.mp4")
        truth = {"fps": 25, "boundaries": [[float(t), float(t)] for t in three_cuts.cuts]}
        (folder / f"{name}.json").write_text(json.dumps(truth))
    return tmp_path / "work"


def test_scores_are_those_of_the_markers(made_set, three_cuts, monkeypatch):
    cuts = [float(t) for t in three_cuts.cuts]
    late = [cuts[0] + 0.2, *cuts[1:]]  # one of them five frames late
    monkeypatch.setattr(scenes, "mambamia", lambda extra: fake("mambamia", cuts))
    monkeypatch.setattr(scenes, "PEERS", (fake("late", late), fake("absent", [], "no-such-package"), fake("none", [])))
    report = scenes.score(made_set, seed=3, peers=True, progress=lambda *_: None)
    ours, second, absent, none = report["tools"]
    assert [run["f1"] for run in ours["runs"]] == [1.0] * 5 == [run["f1"] for run in second["runs"]]
    assert ours["mean"]["f1_frames"] == 1.0 and second["mean"]["f1_frames"] == round((len(cuts) - 1) / len(cuts), 4)
    assert none["mean"]["f1"] == 0.0 and none["runs"][0]["wanted"] == len(cuts)
    assert absent["mean"] is None and "mambamia-cli[peers]" in absent["runs"][0]["error"]
    assert report["videos"][0] == {"name": "cuts", "seconds": 8.0, "boundaries": len(cuts)}
    text = scenes.to_text(report)
    assert "F1 within 0.5 s" in text and "F1 within 2 frames" in text and "no-such-package is not installed" in text
    assert text.count("1.000") == 5 + 1 + 5 + 1 + 5 + 1


def test_only_ours_runs_unless_peers_are_wanted(made_set, monkeypatch):
    monkeypatch.setattr(scenes, "mambamia", lambda extra: fake("mambamia", []))
    report = scenes.score(made_set, seed=3, peers=False, progress=lambda *_: None)
    assert [tool["name"] for tool in report["tools"]] == ["mambamia"]


def test_a_command_is_measured_alone():
    eat = "b = bytearray(120 << 20); import time; t = time.process_time()\nwhile time.process_time() < t + 0.3: pass"
    ran = scene_tools.measured([sys.executable, "-c", eat])
    assert ran.error is None and ran.seconds >= 0.3 and ran.cpu_s >= 0.3 and ran.peak_mib > 120
    failed = scene_tools.measured([sys.executable, "-c", "import sys; print('noise'); sys.exit('the reason')"])
    assert failed.error == "the reason" and failed.seconds is None
    assert "cannot be run" in scene_tools.measured(["no-such-command-here"]).error


def test_a_tool_that_leaves_nonsense_is_reported(three_cuts):
    bad = Tool("bad", None, lambda video, out: [sys.executable, "-c", f"open({str(out)!r}, 'w').write('nonsense')"],
               lambda out, fps: tuple(json.loads(out.read_text())))  # fmt: skip
    assert bad.run(three_cuts.path, 25.0) == Run(error="bad left no result that can be read (JSONDecodeError)")


def test_transnets_scenes_are_read_as_markers(tmp_path):
    """A cut between frames 49 and 50, and a dissolve over 100 .. 110."""
    scenes_found = [{"start_frame": 0, "end_frame": 49}, {"start_frame": 50, "end_frame": 100}, {"start_frame": 110, "end_frame": 199}]
    (tmp_path / "out").write_text(json.dumps(scenes_found))
    assert scene_tools._read_transnet(tmp_path / "out", 25.0) == (2.0, 105 / 25)


def test_our_own_command_and_pyscenedetects_are_read(three_cuts, tmp_path):
    (tmp_path / "ours").write_text(json.dumps({"scenes": [{"start": 0.0}, {"start": 2.04}]}))
    assert scene_tools._read_ours(tmp_path / "ours", 25.0) == (2.04,)
    peer = scene_tools.PEERS[0]
    if peer.version is None:
        pytest.skip("scenedetect is not installed")
    ran = peer.run(three_cuts.path, 25.0)
    assert ran.error is None and ran.markers == pytest.approx([float(t) for t in three_cuts.cuts])


def test_a_race_gives_medians_beside_decoding(three_cuts, monkeypatch, tmp_path, capfd):
    spent = iter([3.0, 9.0, 5.0])
    monkeypatch.setattr(Tool, "run", lambda self, video, fps: Run((), next(spent), 1.0, 70.0))
    monkeypatch.setattr(scenes, "decode_alone", lambda video: Run((), 2.0, 2.0, 30.0))
    out = tmp_path / "race.json"
    assert run(["bench", "scenes", "--video", str(three_cuts.path), "--json", "-o", str(out)]) == 0
    assert tuple(capfd.readouterr()) == ("", "")
    report = json.loads(out.read_text())
    decoding, ours = report["tools"]
    assert decoding["to_decoding"] == 1.0 and (ours["seconds"], ours["to_decoding"], ours["all_seconds"]) == (5.0, 2.5, [3.0, 9.0, 5.0])
    assert "2.50 x" in scenes.to_text(report)


def test_what_peers_agree_on_stands_for_the_truth(three_cuts, monkeypatch):
    """Two peers, each with a marker of its own; one of theirs is ours 0.2 s late, so it hits within half a second alone."""
    monkeypatch.setattr(scenes, "mambamia", lambda extra: fake("mambamia", [2.2, 4.0]))
    monkeypatch.setattr(scenes, "PEERS", (fake("one", [1.0, 2.0, 4.0]), fake("two", [2.1, 4.0, 7.0]), fake("absent", [], "no-such-package")))
    monkeypatch.setattr(scenes, "decode_alone", lambda video: Run((), 2.0, 2.0, 30.0))
    report = scenes.race(three_cuts.path, peers=True, runs=1, progress=lambda *_: None)
    assert report["agreed"] == [2.0, 4.0]
    decoding, ours, one, two, absent = report["tools"]
    assert (ours["f1"], ours["f1_frames"]) == (1.0, 0.5) and one["f1"] == two["f1"] == 0.8
    assert "f1" not in decoding and "f1" not in absent and ours["markers"] == [2.2, 4.0]
    assert "against the 2 markers on which the peers agree" in scenes.to_text(report) and "0.800" in scenes.to_text(report)
    alone = scenes.race(three_cuts.path, peers=False, runs=1, progress=lambda *_: None)
    assert alone["agreed"] is None and "F1" not in scenes.to_text(alone)


def test_videos_that_cannot_be_made_are_an_input_error(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(scenes, "measured", lambda command: Run(error="DownloadError: apt-get is not installed"))
    assert run(["bench", "scenes", "--work", str(tmp_path), "--seed", "4"]) == 3
    said = capfd.readouterr().err
    assert "apt-get is not installed" in said and "mambamia-cli[train]" in said


def test_the_set_is_looked_for_without_the_packages_it_is_made_of(made_set):
    """The process that measures holds no photographs and no torch: the kernel would count them to its children."""
    code = ("import sys; from pathlib import Path; from mambamia_cli.bench import scenes, scene_set;"
            f"assert scene_set.is_made(Path({str(made_set)!r}) / 'scenes-3');"
            "print([m for m in ('torch', 'cv2', 'PIL') if m in sys.modules])")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout == "[]\n"
