"""What streams do to time: they count anew, and send again what they sent before."""

from __future__ import annotations

import time
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

__all__ = ["Replays", "Timeline"]

_JITTER = 1  # seconds by which times fall in a stream that goes on as it was
_LEAP = 60  # seconds by which a live stream's times may run ahead of the clock
_RECENT = 32  # frames by which the clock is compared
_MOST_WAITING = 1000  # packets
_NUDGE = Fraction(1, 1000)
_MOST_KNOWN = 1 << 16  # packets: 43 minutes of 25 a second


class Timeline:
    """Times in seconds that do not fall, of a video whose own times may begin again.

    Where they do, or leap far ahead, the video goes on one frame later, a live one at the time that
    the clock gives it. Times that fall by less than a second are off by themselves: they are held
    back, and the times after them stay as they are.

    Args:
        rate: Frames a second.
        live: Whether the video comes as it is made; its times rise from frame to frame.
    """

    def __init__(self, rate: Fraction, *, live: bool) -> None:
        self.last: Fraction | None = None
        """The last frame's time; None before the first one."""
        self._rate, self._live = rate, live
        self._shift = Fraction(0)
        self._own = Fraction(0)  # the last frame's time as the video says it
        self._before = Fraction(0)  # the same of the frame before they began again
        self._ahead: deque[float] = deque(maxlen=_RECENT)  # of the clock, by frame
        self._waiting: list[Any] = []
        # By stream, of its last packet: its own time, by how much it was moved, the time it got.
        self._sound: dict[int, tuple[Fraction, Fraction, Fraction]] = {}

    def at(self, own: Fraction, *, anew: bool = False) -> Fraction:
        """When the next frame is shown, which the video itself gives the time `own`.

        Args:
            own: Seconds.
            anew: Whether it is the first one of a connection, after which no fall is a slight one.
        """
        clock = time.monotonic()
        shown = own + self._shift
        if self.last is not None:
            # Decoders hold frames back: some from before a silence come after it, and seem late.
            due = Fraction(round(1000 * (clock + max(self._ahead))), 1000)
            fell = shown < self.last - (0 if anew else _JITTER)
            if fell or (self._live and shown > due + _LEAP):
                shown = self.last + 1 / self._rate
                if self._live:
                    shown = max(shown, due)
                self._shift, self._before = shown - own, self._own
            elif shown < self.last or (self._live and shown == self.last):
                shown = self.last + _NUDGE
        self._own, self.last = own, shown
        self._ahead.append(float(shown) - clock)
        return shown

    def moved(self, packets: Iterable[Any], *, over: bool = False) -> list[Any]:
        """PyAV's packets of sound and subtitles that come now, at times that go with the frames.

        What has begun to count anew before the frames did, which decoders hold back, comes later.

        Args:
            packets: That came with the last frame.
            over: Whether there is no further frame to wait for.
        """
        came, self._waiting = [*self._waiting, *packets], []
        may_wait = not over and len(came) < _MOST_WAITING
        kept = []
        for packet in came:
            own = packet.pts if packet.dts is None else packet.dts
            if own is None:
                kept.append(packet)
                continue
            when, last = own * packet.time_base, self._sound.get(packet.stream_index)
            shift, fell, shown = self._shift, False, None
            if last is not None:
                before, shift, shown = last
                fell = when < before - _JITTER
            if shift != self._shift:  # the frames count anew since this one's last packet
                late = not fell and abs(when - self._before) < abs(when - self._own)
                shift = shift if late else self._shift
            elif may_wait and (fell or (self._live and when > self._own + _LEAP)):
                self._waiting.append(packet)
                continue
            now = when + shift
            if self._shift and shown is not None and now <= shown:
                continue  # it would come before the last one
            self._sound[packet.stream_index] = when, shift, now
            ticks = round(shift / packet.time_base)
            for name in ("pts", "dts"):
                if ticks and getattr(packet, name) is not None:
                    setattr(packet, name, getattr(packet, name) + ticks)
            kept.append(packet)
        return kept


class Replays:
    """Knows the packets of a stream that came over an earlier connection, to leave them out.

    A playlist's last minute comes again by a new connection, and so does all of a file whose length
    the server does not tell. Packets are the same where their bytes and times are.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, int] = OrderedDict()  # the connection of each packet
        self._connection = 0
        self._again: set[int | None] = set()

    def reconnected(self) -> None:
        """What comes from now on comes over another connection."""
        self._connection += 1
        self._again.clear()

    def see(self, packet: Any) -> None:
        """Take in PyAV's packet of the video."""
        key = hash((packet.pts, zlib.crc32(packet)))
        if self._known.setdefault(key, self._connection) < self._connection:
            self._again.add(packet.pts)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    def __contains__(self, frame: Any) -> bool:
        """Whether PyAV's frame came from a packet that is known."""
        return frame.pts in self._again
