"""When memory runs out in the middle of a look: smaller pieces, from the last finished chunk on, the same numbers."""

import gc
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mambamia_cli.errors import OutOfMemoryError

if TYPE_CHECKING:
    from torch import Tensor

    from mambamia_cli.compressor.model import CompressorOutput
    from mambamia_cli.compressor.stream import StreamingCompressor

log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_SAID = ("can't allocate memory", "out of memory", "not enough memory")


def ran_out(error: BaseException) -> bool:
    """Whether an exception is a want of memory, of the host's or a device's, in any of the forms it comes in."""
    import torch

    if isinstance(error, (MemoryError, OutOfMemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def give_back() -> None:
    """Return to the driver what a GPU's allocator keeps for later."""
    from mambamia_cli.language.model import free_cached

    gc.collect()
    free_cached()


class Backoff:
    """Encodes and compresses chunks; halves what is done at once whenever memory runs out, and goes on.

    `frames` is the number of frames encoded at once. Raises OutOfMemoryError when one frame is too much.
    """

    def __init__(self, encoder: Any, stream: "StreamingCompressor", frames: int):
        self.encoder, self.stream, self.frames = encoder, stream, frames

    def encode(self, pixels: "Tensor") -> "Tensor":
        """pixels (m, 3, H, W) uint8 -> patches (m, n, d_vision). Frames that are done stay done when the next run out."""
        import torch

        done: list[Tensor] = []
        at = 0
        while at < len(pixels):
            piece = pixels[at : at + self.frames]
            patches = self._attempt(lambda: self.encoder.encode(piece), self._smaller_encode, "the vision encoder")  # noqa: B023
            if patches is not None:
                done.append(patches)
                at += len(piece)
        return done[0] if len(done) == 1 else torch.cat(done)

    def push(self, patches: "Tensor") -> list["CompressorOutput"]:
        """The stream's `push`: patches (m, n, d_vision), the next frames -> what has become final."""
        while self._attempt(lambda: self.stream.take_in(patches) or True, self._smaller_stream, "the compressor") is None:
            pass
        return self.finish(self.stream.work)

    def finish(self, work: Callable[[], list["CompressorOutput"]]) -> list["CompressorOutput"]:
        """`stream.work` or `stream.finish`, as often as it takes. A window that ran out of memory is begun again from the
        states that entered it; those before it are done."""
        while (outputs := self._attempt(work, self._smaller_stream, "the compressor")) is None:
            pass
        return outputs

    def _attempt(self, work: Callable[[], _Result], smaller: Callable[[], str | None], who: str) -> _Result | None:
        """The result of `work`; None when memory ran out and there is something smaller to try."""
        try:
            return work()
        except (MemoryError, RuntimeError, OutOfMemoryError) as error:
            if not ran_out(error):
                raise
        # Outside of the except block: inside, the traceback holds on to the tensors of the frames it went through.
        give_back()
        if (now := smaller()) is None:
            raise OutOfMemoryError(f"memory ran out in {who} with one frame at a time", "use --device cpu, or a smaller model")
        log.warning("memory ran out in %s: going on with %s at once", who, now)
        return None

    def _smaller_encode(self) -> str | None:
        if self.frames == 1:
            return None
        self.frames = (self.frames + 1) // 2
        return _count(self.frames)

    def _smaller_stream(self) -> str | None:
        return _count(self.stream.chunk_frames) if self.stream.smaller() else None


def _count(frames: int) -> str:
    return "one frame" if frames == 1 else f"{frames} frames"
