"""Damaged files end in frames or in an error of ours: never a hang, a crash, or another exception."""

import json
import random
import subprocess
import sys

import pytest
from fixtures import videos

# Runs apart from the tests, so that a crash of libav is a failed test and not the end of the run. One line a file.
CHILD = """
import json, sys
from mambamia_cli.errors import InputError, UsageError
from mambamia_cli.video.decode import open_frames
from mambamia_cli.video.grab import grab
from mambamia_cli.video.probe import probe
from mambamia_cli.video.sample import SampleSpec

def attempt(work):
    try:
        return work()
    except (InputError, UsageError) as err:
        assert err.hint and "\\n" not in str(err)
        return type(err).__name__

def read(path, spec):
    with open_frames(path, spec) as stream:
        times = [t for chunk in stream for t in chunk.times]
    assert times and all(a < b for a, b in zip(times, times[1:]))
    return len(times)

for path in json.load(sys.stdin):
    print(path, end=" ", flush=True)
    found = [
        attempt(lambda: probe(path).codec),
        attempt(lambda: read(path, SampleSpec(fps=None, size=(32, 32)))),
        attempt(lambda: read(path, SampleSpec(fps=3, start=0.3, size=(32, 32)))),
        attempt(lambda: read(path, SampleSpec(fps=None, max_frames=4, size=(32, 32)))),
        attempt(lambda: grab(path, [0.5, 0.1], (32, 32)).shape[0]),
    ]
    print(json.dumps(found), flush=True)
"""


def damage(data: bytes, how: str, dice: random.Random) -> bytes:
    if how == "cut":
        return data[: dice.randrange(1, len(data))]
    spoiled = bytearray(data)
    if how == "bits":
        for _ in range(dice.choice([1, 4, 30])):
            spoiled[dice.randrange(len(spoiled))] ^= 1 << dice.randrange(8)
    elif how == "head":  # headers and indexes, where a wrong number does the most harm
        for _ in range(dice.choice([1, 4])):
            at = dice.choice([dice.randrange(min(900, len(spoiled))), len(spoiled) - 1 - dice.randrange(900)])
            spoiled[at] = dice.randrange(256)
    else:  # a hole
        at = dice.randrange(len(spoiled))
        end = min(len(spoiled), at + dice.choice([16, 400, 3000]))
        spoiled[at:end] = bytes(end - at)
    return bytes(spoiled)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, options",
    [
        ("clip.mp4", {"audio": True}),
        ("clip.mkv", {}),
        ("clip.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}),
        ("clip.ts", {}),
        ("clip.avi", {"codec": "mpeg4"}),
        ("hevc.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none"}}),
    ],
)
def test_damaged_files_never_hang_or_crash(name, options, make_video, tmp_path):
    data = make_video(
        name, ((videos.RED, 1), (videos.BLUE, 1)), size=(48, 64), textured=True, **options
    ).path.read_bytes()
    dice = random.Random(name)
    paths = []
    for i in range(40):
        path = tmp_path / f"{i}_{name}"
        path.write_bytes(damage(data, ("cut", "bits", "head", "hole")[i % 4], dice))
        paths.append(str(path))
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", CHILD],
        input=json.dumps(paths), capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    results = [json.loads(line.split(" ", 1)[1]) for line in done.stdout.splitlines()]
    assert len(results) == len(paths)
    read = [found[1] for found in results if isinstance(found[1], int)]
    assert len(read) > 10  # the damage leaves something to decode,
    assert name == "clip.ts" or any(found[1] == "InputError" for found in results)  # and sometimes nothing
    assert done.stderr == ""  # libav's own words are not for the user
