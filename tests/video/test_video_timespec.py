from fractions import Fraction

import pytest

from mambamia_cli.errors import UsageError
from mambamia_cli.video.timespec import parse_time


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("95", "95"), ("95.5", "95.5"), ("0", "0"), (".25", "0.25"), (" 7 ", "7"), ("1:35", "95"), ("90:00", "5400"),
        ("1:02:03.5", "3723.5"), ("0:00:00.040", "0.04"), ("1h2m3s", "3723"), ("1h", "3600"), ("2m", "120"),
        ("3.5s", "3.5"), ("1h3s", "3603"), ("1.5H", "5400"), ("0.1", "0.1"),
    ],
)  # fmt: skip
def test_times(text, seconds):
    assert parse_time(text) == Fraction(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "-5", "+5", "1:60", "1:60:00", "1:2:3:4", "3s2m", "1h2", "abc", "1e3", "nan", "1:-2", "²", "1.2.3", ":"],
)
def test_not_times(text):
    with pytest.raises(UsageError, match="is not a time.*1h2m3s") as caught:
        parse_time(text)
    assert caught.value.exit_code == 2
