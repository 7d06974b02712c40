"""Which frames are looked at. Exact: rational arithmetic on presentation times, never a frame count over a rate.

The rule. Ticks stand at t_i = start + i / fps, for every t_i < end. The frame sampled for a tick is the one on screen
at that moment: the last frame presented at or before t_i. A frame that is on screen for several ticks (a still held in
a variable frame rate video, or fps above the video's own rate) is sampled once. Its time is its presentation time, or
`start` for a frame that was already on screen when the range opens.

A container keeps times as multiples of its time base, so a frame may be stored up to half a unit late (Matroska writes
2/30 s as 0.067). A frame counts as on screen at t_i if it is presented less than half a unit, and at most half a
millisecond, after t_i; otherwise sampling at a video's own rate would lose every third frame there.

`fps=None` takes every frame that is on screen at some moment of [start, end). `max_frames=N` lowers the rate to
N / (end - start) where the ticks would be more than N: the same rule, spread evenly over the range, and said (`capped`).
"""

from dataclasses import dataclass
from fractions import Fraction

from ..errors import UsageError

LONGEST_TOLERANCE = Fraction(1, 2000)  # s


@dataclass(frozen=True)
class SampleSpec:
    """What to sample. Times in seconds from the first frame; `size` is (height, width) or None for the display size;
    `stream` is the container's stream index, as `probe` and ffprobe count it, or None for the main video stream."""

    fps: Fraction | None = Fraction(1)
    max_frames: int | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    size: tuple[int, int] | None = None
    stream: int | None = None

    def __post_init__(self):
        if self.fps is not None:
            object.__setattr__(self, "fps", Fraction(self.fps))
            if self.fps <= 0:
                raise UsageError("the sampling rate must be above zero", "try --fps 1")
        if self.max_frames is not None and self.max_frames < 1:
            raise UsageError("at least one frame must be sampled", "try --max-frames 64")
        for name in ("start", "end"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Fraction(getattr(self, name)))
        if self.begin < 0:
            raise UsageError("the start of the range is negative", "count it from the first frame: --start 0")
        if self.end is not None and self.end <= self.begin:
            raise UsageError("the range ends before it starts", "give --end a later time than --start")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"frames cannot be scaled to {self.size}", "give a height and a width above zero")

    @property
    def begin(self) -> Fraction:
        return self.start or Fraction(0)

    def step(self, end: Fraction | None) -> tuple[Fraction | None, bool]:
        """(seconds between ticks, or None for every frame; whether `max_frames` lowered the rate).

        end: where the range really ends (the smaller of `self.end` and the duration); needed with `max_frames`.
        For every frame with `max_frames`, whether the cap bites is known only after decoding: False here.
        """
        wanted = None if self.fps is None else 1 / self.fps
        if self.max_frames is None:
            return wanted, False
        even = (end - self.begin) / self.max_frames
        if wanted is None:
            return even, False
        return (even, True) if even > wanted else (wanted, False)


class Grid:
    """The ticks of a range, met by frames in presentation order.

    `take(shown, until)` says whether the frame on screen over [shown, until) is sampled, and moves past its ticks.
    All times are seconds from the first frame. step None takes every frame of the range.
    """

    def __init__(self, start: Fraction, end: Fraction | None, step: Fraction | None, time_base: Fraction):
        self.start, self.end, self.step = start, end, step
        self.tolerance = min(time_base / 2, LONGEST_TOLERANCE)
        self.tick: Fraction = start  # the next tick that has no frame yet
        self.passed = 0  # frames seen in the range that no tick took

    def counted(self, unit: int) -> "Grid":
        """The same ticks, as they stand before the first frame, with all times in 1 / unit seconds. Where these are whole numbers, `take`
        is many times as fast as with fractions."""
        grid = Grid(*(None if t is None else int(t * unit) for t in (self.start, self.end, self.step)), Fraction(0))  # type: ignore[arg-type]
        grid.tolerance = int(self.tolerance * unit)  # type: ignore[assignment]
        return grid

    def over(self, shown: Fraction) -> bool:
        """True when a frame presented at `shown`, and so all later ones, is past the range or its last tick."""
        if self.end is None or (shown < self.end and self.tick < self.end):
            return False
        self.passed += shown < self.end
        return True

    def take(self, shown: Fraction, until: Fraction) -> bool:
        if self.end is not None and shown >= self.end:
            return False
        taken = self._take(shown, until)
        self.passed += not taken and until - self.tolerance > self.start
        return taken

    def _take(self, shown: Fraction, until: Fraction) -> bool:
        # `until` is when the next frame counts as on screen; from there on the ticks are that frame's
        last = until - self.tolerance
        if self.step is None:
            return last > self.start
        if self.tick <= shown - self.tolerance:  # ticks no frame was on screen for: after a seek, or lost frames
            self.tick = self._after(shown - self.tolerance)
        if self.tick > last or (self.end is not None and self.tick >= self.end):
            return False
        self.tick = self._after(last)
        return True

    def time(self, shown: Fraction) -> Fraction:
        """The time a sampled frame carries."""
        return max(shown, self.start)

    def _after(self, moment: Fraction) -> Fraction:
        """The first tick later than `moment` (which is never before the start)."""
        return self.start + ((moment - self.start) // self.step + 1) * self.step
