"""What a job is known by, and which shard does it."""

import os
import random

import pytest

from mambamia_cli.batch.jobs import Job
from mambamia_cli.batch.keys import key_of, shard_of
from mambamia_cli.models.version import model_version

ENGINE = {"model": "mambamia-tiny", "device": "auto", "quant": "auto", "threads": None, "seed": 0, "vram_limit": None,
          "ram_limit": None, "hear": True, "allow_pickle": False, "frame_size": None}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123")
    os.utime(path, ns=(10, 10))
    return path


def key(path, cmd="ask", version="v", id=None, engine=None, **settings):
    return key_of(Job(cmd, str(path), {"questions": ["who?"], **settings}, id), ENGINE | (engine or {}), version)


def test_what_changes_the_result_changes_the_key(file):
    known = key(file)
    others = [key(file, cmd="find"), key(file, questions=["what?"]), key(file, fps="2"), key(file, version="w"), key(file, engine={"quant": "nf4"}),
              key(file, engine={"seed": 1}), key(file, engine={"hear": False}), key(file, engine={"frame_size": 300})]  # fmt: skip
    os.utime(file, ns=(10, 11))
    others.append(key(file))
    file.write_bytes(b"01234")
    os.utime(file, ns=(10, 10))
    others.append(key(file))
    assert len({known, *others}) == 11


def test_what_does_not_change_it_does_not(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    link = file.parent / "link.mp4"
    link.symlink_to(file)
    engine = {"device": "cpu", "threads": 3, "ram_limit": "8GiB"}
    assert key(file) == key("a.mp4") == key("./a.mp4") == key(link) == key(file, id="x") == key(file, engine=engine)
    assert key(file, cmd="scenes") == key(file, cmd="scenes", engine={"quant": "nf4", "frame_size": 300})


@pytest.mark.parametrize("video", ["gone.mp4", "null\0.mp4", "https://x.org/a", "bytes\udce9.mp4"])
def test_a_video_that_is_not_there_has_a_key_too(video):
    assert key(video) == key(video) != key("other.mp4")


def test_new_weights_are_a_new_version(tiny_model, tmp_path):
    import shutil

    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    assert model_version(str(copy)) == model_version(str(tiny_model)), "a copy is the same model"
    weights = copy / "compressor" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert model_version(str(copy)) != model_version(str(tiny_model))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_do_each_job_once_in_any_order(count):
    jobs = [Job("scenes", f"videos/{i}.mp4", {}, f"id{i}" if i % 3 else None) for i in range(400)]
    parts = [[job for job in jobs if shard_of(job, count) == part] for part in range(1, count + 1)]
    assert sorted(job.video for part in parts for job in part) == sorted(job.video for job in jobs)
    assert min(map(len, parts)) > 0.7 * len(jobs) / count, "the parts are about as large"
    random.Random(0).shuffle(jobs)
    assert {job.video for job in jobs if shard_of(job, count) == 1} == {job.video for job in parts[0]}


def test_a_shard_does_not_hang_on_settings_or_on_where_the_list_is_read():
    assert len({shard_of(Job("ask", "a.mp4", {"questions": [str(i)]}), 64) for i in range(20)}) == 1
    assert len({shard_of(Job("ask", f"{i}.mp4", {}, "same"), 64) for i in range(20)}) == 1
