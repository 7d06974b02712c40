"""Where a video comes from: a path as it is, or an http(s) address fetched by yt-dlp into the cache, once.

yt_dlp is imported only when something is really fetched.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import DownloadError, InputError, UsageError

Progress = Callable[[int, int | None], None]
"""Called with (bytes there so far, bytes in all or None), from the thread that fetches."""

# The smallest rendition of at least 360 lines, without sound where there is such a one; failing that, the largest there
# is. The order is turned round by _SMALLEST_FIRST: "best" is the smallest and "worst" the largest.
_FORMAT = "bv[height>=360]/b[height>=360]/wv/w/w*"
_SMALLEST_FIRST = ["+height", "+fps", "+size", "+br"]
_UNFINISHED = {".part", ".ytdl", ".temp"}
_SLOWEST = 1024  # bytes a second; less than this over a whole timeout is a server that stalls
_RETRIES = 2
_AGAIN = "run it again: it goes on from what is there"


def is_url(text: str | Path) -> bool:
    """Whether a source is an http(s) address rather than a path."""
    return re.match(r"https?://", str(text), re.IGNORECASE) is not None


def check_source(source: str) -> None:
    """Refuse what cannot be a video before anything is loaded.

    Raises:
        InputError: missing, a folder, empty or unreadable.
        UsageError: an empty name.
    """
    if not source:
        raise UsageError("the name of a video is empty", "give a file or a URL")
    if is_url(source):
        return
    if os.path.isdir(source):
        raise InputError(f"{source} is a folder", f"give a video file, for example {source.rstrip('/')}/*.mp4")
    if not os.path.exists(source):
        raise InputError(f"{source} does not exist", "check the path")
    if not os.access(source, os.R_OK):
        raise InputError(f"{source} cannot be read", "check its permissions")
    if os.path.isfile(source) and os.path.getsize(source) == 0:
        raise InputError(f"{source} is empty", "check that its download or recording finished")


def fetch(url: str, cache_dir: str | Path, *, progress: Progress | None = None, timeout: float = 20.0) -> Path:
    """Fetch the video at an address into `cache_dir` and return its file; a finished one is not fetched again.

    An interrupted fetch leaves a .part file, and the next call continues it. timeout: seconds without an answer (or
    with almost none) after which a try is given up; there are three. Raises DownloadError, its remedy in the hint.
    """
    if not is_url(url):
        raise DownloadError(f"{url} is not an http(s) address", "give it with its http:// or https://")
    folder, name = Path(cache_dir), hashlib.sha256(url.encode()).hexdigest()[:20]
    if (done := _finished(folder, name)) is not None:
        return done
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DownloadError(f"{folder} cannot be written ({err.strerror})", "choose another cache folder") from None
    import yt_dlp

    options = {
        "format": _FORMAT,
        "format_sort": _SMALLEST_FIRST,
        "outtmpl": {"default": f"{str(folder).replace('%', '%%')}/{name}.%(ext)s"},
        "noplaylist": True,
        "playlist_items": "1:2",  # enough to see that it is one, without listing it all
        "continuedl": True,
        "buffersize": 64,  # where reads begin (they grow with the speed): the first must not wait on a trickle
        "socket_timeout": timeout,
        "retries": _RETRIES,
        "fragment_retries": _RETRIES,
        "extractor_retries": 1,
        "fixup": "never",  # would call an ffmpeg program, and the decoder needs no fixing
        "updatetime": False,
        "cachedir": False,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "color": "no_color",
        "logger": _Quiet(),
        "progress_hooks": [_Watch(progress, timeout)],
    }
    try:
        with yt_dlp.YoutubeDL(options) as ydl:
            info = _single(ydl.extract_info(url, download=False), url)
            ydl.process_ie_result(info, download=True)
    except yt_dlp.utils.YoutubeDLError as err:
        raise _explain(url, str(err)) from None
    except OSError as err:
        raise _explain(url, err.strerror or str(err)) from None
    if (done := _finished(folder, name)) is None:
        raise DownloadError(f"{url} brought no file", _AGAIN)
    return done


def _finished(folder: Path, name: str) -> Path | None:
    return next((p for p in sorted(folder.glob(f"{name}.*")) if not _UNFINISHED & set(p.suffixes)), None)


def _single(info: dict | None, url: str) -> dict:
    """The one video an address stands for; a page with one video embedded comes as a list of one."""
    entries = list(info.get("entries") or []) if info and info.get("_type") in ("playlist", "multi_video") else [info]
    if len(entries) > 1:
        raise DownloadError(f"{url} is a list of videos", "give the address of one of them")
    if not entries or entries[0] is None:
        raise DownloadError(f"{url} holds no video", "give the address of a video, or of a page that shows one")
    if entries[0].get("is_live"):
        raise DownloadError(f"{url} is a live stream", "wait until it has ended and is kept as a video")
    return entries[0]


class _Watch:
    """A progress hook: passes the bytes on, and gives up on a server that sends next to nothing."""

    def __init__(self, progress: Progress | None, timeout: float):
        self._progress, self._timeout = progress, timeout
        self._since, self._then = None, 0  # when, and how many bytes were there then; from the first bytes on

    def __call__(self, state: dict) -> None:
        done = int(state.get("downloaded_bytes") or 0)
        total = state.get("total_bytes") or state.get("total_bytes_estimate")
        now = time.monotonic()
        if self._since is None:
            self._since, self._then = now, done
        if state.get("status") == "downloading" and now - self._since > self._timeout:
            if 0 <= done - self._then < _SLOWEST * self._timeout:
                raise DownloadError(f"the server sends less than {_SLOWEST} bytes a second", _AGAIN)
            self._since, self._then = now, done
        if self._progress is not None:
            self._progress(done, int(total) if total else None)


class _Quiet:
    """yt-dlp speaks to a logger; what went wrong comes as an exception as well, and is told from there."""

    def debug(self, message: str) -> None: ...

    info = warning = error = debug


def _explain(url: str, message: str) -> DownloadError:
    """yt-dlp's words as one sentence of ours with a remedy."""
    words = re.sub(r"^(ERROR: )?(\[[\w:+-]+\] )?", "", message.strip().splitlines()[0] if message.strip() else "failed")
    words = re.split(r"; please report this issue|\. Use --| \(caused by ", words)[0].rstrip(". ")
    if "Unsupported URL" in words or "No video formats" in words or "no video" in words.lower():
        return DownloadError(f"{url} holds no video", "give the address of a video, or of a page that shows one")
    if status := re.search(r"HTTP Error (\d+)", words):
        remedy = (
            "check the address" if status[1] in ("400", "404", "410") else "check that it may be seen, or try later"
        )
        return DownloadError(f"{url} could not be fetched: HTTP error {status[1]}", remedy)
    if "timed out" in words:
        return DownloadError(f"{url} stopped answering", _AGAIN)
    if "No space left" in words:
        return DownloadError(f"{url} does not fit on the disk", "free some space or choose another cache folder")
    words = words.removeprefix("Unable to download webpage: ").removeprefix("unable to download video data: ")
    return DownloadError(f"{url} could not be fetched: {words}", "check the address and the network, then run it again")
