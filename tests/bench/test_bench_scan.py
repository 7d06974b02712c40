"""The scan benchmark on a small shape: every row is timed, agrees with ours, and the table shows it."""

import pytest

from mambamia_cli.bench.scan import OURS, bench_scan, format_scan


def test_rows_agree_and_are_shown():
    result = bench_scan(shape={"b": 1, "l": 70, "h": 2, "p": 8, "s": 4}, chunk_sizes=(16, 32), repeats=1)
    ours, *rivals = result["rows"]
    assert ours["name"] == OURS and ours["speedup"] == 1 and ours["difference"] < 1e-4
    assert len(rivals) + len(result["left_out"]) == 2
    table = format_scan(result)
    for row in result["rows"]:
        assert row["difference"] < 1e-4, row["name"]  # another scan would be a benchmark of nothing
        assert row["speedup"] == pytest.approx(row["forward_ms"] / ours["forward_ms"])
        assert row["chunk"] in (16, 32) and row["name"] in table
    assert all(name in table for name in result["left_out"])
