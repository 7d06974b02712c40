"""Fetching from a server on 127.0.0.1: whole, missing, stalling, interrupted, and a page that shows no video."""

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mambamia_cli.errors import DownloadError
from mambamia_cli.video.probe import probe
from mambamia_cli.video.source import fetch, is_url


class Site(ThreadingHTTPServer):
    """Serves /clip.mp4 (with ranges), /stall.mp4 (half of it, then nothing), /silent (accepts, never answers),
    /trickle.mp4 (a byte at a time) and /page.html. `requests` holds (path, range header) of every GET."""

    daemon_threads = True

    def __init__(self, data: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.requests, self.stop = data, [], threading.Event()
        self.stalling = True
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_): ...

    def do_GET(self):
        site = self.server
        asked = self.headers.get("Range")
        site.requests.append((self.path, asked))
        if self.path == "/silent":
            site.stop.wait(30)
            return
        if self.path.endswith(".html"):
            self.reply(b"<html><title>words</title><body>no picture here</body></html>", "text/html")
        elif self.path.endswith(".mp4") and self.path != "/missing.mp4":
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
            begin = int(span[1]) if span else 0
            self.reply(site.data[begin:], "video/mp4", begin if span else None)
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def reply(self, body: bytes, kind: str, begin: int | None = None):
        site = self.server
        self.send_response(200 if begin is None else 206)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if begin is not None:
            self.send_header("Content-Range", f"bytes {begin}-{len(site.data) - 1}/{len(site.data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.path == "/stall.mp4" and site.stalling:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            site.stop.wait(30)
        elif self.path == "/trickle.mp4":
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                self.wfile.flush()
                if site.stop.wait(0.02):
                    return
        else:
            self.wfile.write(body)


@pytest.fixture
def site(bikes, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = Site(bikes.read_bytes())
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "text, known", [("http://a/b", True), ("HTTPS://a", True), ("a.mp4", False), ("/http://a", False)]
)
def test_is_url(text, known):
    assert is_url(text) is known


def test_a_direct_file_is_fetched_once_with_progress(site, tmp_path, bikes):
    seen = []
    path = fetch(site.url("clip.mp4"), tmp_path / "new" / "100%(x)s", progress=lambda *step: seen.append(step))
    assert path.read_bytes() == bikes.read_bytes() and probe(path).frames == 250
    size = len(site.data)
    assert seen[-1] == (size, size) and [s[0] for s in seen] == sorted(s[0] for s in seen)
    count = len(site.requests)
    assert fetch(site.url("clip.mp4"), tmp_path / "new" / "100%(x)s") == path
    assert len(site.requests) == count  # nothing was asked again
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_missing(site, tmp_path):
    with pytest.raises(DownloadError, match="HTTP error 404; check the address") as caught:
        fetch(site.url("missing.mp4"), tmp_path)
    assert caught.value.exit_code == 4 and not list(tmp_path.iterdir())


def test_a_page_without_video(site, tmp_path):
    with pytest.raises(DownloadError, match="holds no video"):
        fetch(site.url("page.html"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_server_that_never_answers(site, tmp_path):
    began = time.monotonic()
    with pytest.raises(DownloadError, match="stopped answering"):
        fetch(site.url("silent"), tmp_path, timeout=0.5)
    assert time.monotonic() - began < 15


def test_nobody_there(tmp_path, site):
    port = site.server_address[1]
    site.shutdown()
    site.server_close()
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch(f"http://127.0.0.1:{port}/clip.mp4", tmp_path, timeout=1)


def test_a_stalled_fetch_ends_and_the_next_one_continues_it(site, tmp_path, bikes):
    began = time.monotonic()
    with pytest.raises(DownloadError, match="run it again"):
        fetch(site.url("stall.mp4"), tmp_path, timeout=0.5)
    assert time.monotonic() - began < 20
    (part,) = tmp_path.iterdir()
    there = part.stat().st_size
    assert part.suffix == ".part" and there > len(site.data) // 4
    site.stalling = False
    site.requests.clear()
    path = fetch(site.url("stall.mp4"), tmp_path)
    assert path.read_bytes() == bikes.read_bytes()
    assert any(asked and asked.startswith(f"bytes={there}-") for _, asked in site.requests)


def test_an_interrupt_leaves_what_is_there(site, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(site.url("clip.mp4"), tmp_path, progress=interrupt)
    assert all(p.suffix == ".part" for p in tmp_path.iterdir())
    assert fetch(site.url("clip.mp4"), tmp_path).stat().st_size == len(site.data)


def test_a_trickle_is_a_stall(site, tmp_path):
    with pytest.raises(DownloadError, match=r"run it again"):
        fetch(site.url("trickle.mp4"), tmp_path, timeout=0.6)


def test_the_smallest_rendition_of_360_lines_without_sound_is_chosen():
    import yt_dlp

    from mambamia_cli.video import source

    def rendition(name, height, size, sound):
        codecs = {"vcodec": "h264", "acodec": "aac" if sound else "none"}
        return {
            "format_id": name,
            "url": f"http://127.0.0.1/{name}",
            "height": height,
            "filesize": size,
            "ext": "mp4",
            **codecs,
        }

    def chosen(*renditions):
        options = {"format": source._FORMAT, "format_sort": source._SMALLEST_FIRST, "quiet": True, "simulate": True}
        with yt_dlp.YoutubeDL({**options, "logger": source._Quiet(), "cachedir": False}) as ydl:
            info = {"id": "x", "title": "x", "extractor": "x", "webpage_url": "http://x/", "formats": list(renditions)}
            return ydl.process_ie_result(info, download=False)["format_id"]

    ladder = [rendition(f"v{h}", h, h * 100, False) for h in (144, 240, 360, 720, 1080)]
    sounding = [rendition(f"s{h}", h, h * 10, True) for h in (144, 360, 720)]
    assert chosen(*ladder, *sounding) == "v360"
    assert chosen(*reversed(ladder), rendition("heavy", 360, 10**9, False)) == "v360"
    assert chosen(*sounding) == "s360"
    assert chosen(*ladder[:2]) == "v240"
    assert chosen(ladder[4], *sounding) == "v1080"
    sound = {"format_id": "a", "url": "http://127.0.0.1/a", "vcodec": "none", "acodec": "aac", "ext": "m4a"}
    assert chosen(sound, *ladder) == "v360"
