"""Metrics become curves, and curves a picture, whatever a killed run left in the file."""

import json

import pytest

from mambamia_cli.errors import UsageError
from mambamia_cli.training import plotting

ROWS = [{"step": 10 * i, "seconds": 2.0 * i, "loss": 3 / i, "delta": 0.1, "lr": 1e-4, "first": i / 10} for i in range(1, 9)]
HELD = [{"step": 40, "seconds": 8.5, "validation": "held-out", "loss": 1.0, "first": 0.25},
        {"step": 80, "seconds": 16.5, "validation": "held-out", "loss": 0.7, "first": 0.5}]  # fmt: skip


def write(folder, rows, end="\n"):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + end)
    return folder / "metrics.jsonl"


def test_losses_and_scores_are_told_apart(tmp_path):
    losses, scores = plotting.curves(plotting.read_metrics(write(tmp_path / "tune", ROWS + HELD)))
    assert set(losses) == {"loss", "delta", "held-out"} and set(scores) == {"first"}
    assert losses["held-out"] == [(40, 1.0), (80, 0.7)]
    assert scores["first"]["held-out"] == [(40, 0.25), (80, 0.5)]
    assert scores["first"]["training"][-1] == (80, 0.8)


def test_rows_written_twice_and_a_cut_line(tmp_path):
    again = {**ROWS[5], "loss": 9.0}
    rows = plotting.read_metrics(write(tmp_path / "tune", [*ROWS, again], end='\n{"step": 90, "lo'))
    assert [row["step"] for row in rows] == [10 * i for i in range(1, 9)]
    assert rows[5]["loss"] == 9.0


def test_smoothing_keeps_the_mean():
    curve = [(x, float(x % 2)) for x in range(1000)]
    smooth = plotting.smooth(curve, 20)
    assert len(smooth) == 20 and all(abs(y - 0.5) < 1e-9 for _, y in smooth)


def test_every_stage_is_drawn(tmp_path):
    for stage, rows in (("align", ROWS), ("tune", ROWS + HELD)):
        write(tmp_path / stage, rows)
    pictures = plotting.draw_all(tmp_path)
    assert [p.parent.name for p in pictures] == ["align", "tune"]
    for picture in pictures:
        import matplotlib.image

        pixels = matplotlib.image.imread(picture)
        assert pixels.shape[1] > 1000 and pixels.min() < 0.3 < pixels.max()  # something is drawn on the white
        assert not list(picture.parent.glob("*.tmp"))
    # the held-out curve's red-blue is in the second picture only
    blue = [(abs(matplotlib.image.imread(p)[..., :3] - (0x25 / 255, 0x63 / 255, 0xEB / 255)).max(-1) < 0.02).sum() for p in pictures]
    assert blue[1] > blue[0] + 200


@pytest.mark.parametrize("rows", [None, []])
def test_nothing_to_draw_is_said(tmp_path, rows):
    if rows is not None:
        write(tmp_path / "align", rows, end="")
    with pytest.raises(UsageError, match="metrics"):
        plotting.draw_all(tmp_path)
