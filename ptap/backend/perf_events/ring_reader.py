"""The thread that drains all rings and merges their records by time.

The kernel drops records when a ring is full, so rings are drained by a thread of their own into a queue of
bounded memory, however slow the consumer is. What does not fit the bound is dropped here, counted, and told as
RecordsLost.

Merging: a round drains every ring once. A record is written within microseconds of its time stamp, so that once
a round began at T, everything older than T - 1 ms has been seen, and is delivered in the order of time. A record
that is delayed longer than that (a preempted virtual CPU) is delivered late, not lost.
"""

from __future__ import annotations

import ctypes
import os
import queue
import select
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Protocol

from ptap.backend.perf_events.ring_buffer import TimedRecord
from ptap_target.look_pause import LookPause
from relay_reader.capture import RecordsLost
from relay_reader.perf_record import EventLayout

Batch = list[TimedRecord | RecordsLost]

_SETTLE_NS = 1_000_000
_BUSY_WAIT_MS = 1
_IDLE_WAIT_MS = 10
# Rounds without a record before the longer wait: a first hit after a pause is seen within 10 ms.
_IDLE_AFTER_ROUNDS = 50
_QUEUE_BYTES = 512 << 20
_RECORD_OVERHEAD = 120
_GIVE_WAY_S = 0.02
_GIVE_WAY_EVERY = 64
"""Records."""
# malloc.h
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_HEAP_STEP = 16 << 20
_time = itemgetter(0)


class RecordRing(Protocol):
    """Where the records of one CPU wait to be read: a perf ring, or one of a kernel module."""

    @property
    def fd(self) -> int:
        """A descriptor that tells by poll when there are records; -1 where nothing tells."""

    cpu: int
    size: int
    """Bytes."""
    skipped: int
    """Records that `drain` was told not to keep, since this was last set to 0."""

    def drain(self, layouts: Mapping[int, EventLayout], out: list[TimedRecord], *, keep_samples: bool) -> int:
        """Append the records that are there to `out`, in the order written, and free their room: its bytes."""


class RingReader:
    """Drains `rings` until `stop` or until all `alive_fds` report that their threads and descendants ended.

    `alive_fds` are events of the target; the kernel reports POLLHUP on one when its thread and all that inherited from
    it have ended. Where `ended` is given, what is traced has no end of its own: then it is a descriptor that is
    readable at the end, or -1 where only `stop` ends it. With `pause_ms` up to that long is waited for more records,
    unless a ring fills. `disarm` is called when the capture stops, before the last round, so that this round sees all.
    """

    def __init__(
        self,
        rings: Sequence[RecordRing],
        layouts: Mapping[int, EventLayout],
        alive_fds: Sequence[int],
        disarm: Callable[[], None],
        ended: int | None = None,
        pause_ms: int | None = None,
    ) -> None:
        self._rings = rings
        self._layouts = layouts
        self._alive = set(alive_fds)
        self._ended = ended
        self._pause = LookPause(_BUSY_WAIT_MS / 1000, pause_ms / 1000) if pause_ms is not None else None
        self._disarm = disarm
        self._pending: list[TimedRecord] = []
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._kept_bytes = 0
        self._taken_bytes = 0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Not set while the rings fill fast: then the consumer leaves the interpreter to the drain.
        self._calm = threading.Event()
        self._calm.set()
        self._stopping = False
        self._closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="perf-ring-reader", daemon=True)

    def start(self) -> None:
        """Begin to drain."""
        _keep_freed_memory()
        self._thread.start()

    def stop(self) -> None:
        """End soon; safe in a signal handler and from any thread."""
        self._stopping = True
        if not self._closed:
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Stop and wait for the thread."""
        if self._closed:
            return
        self.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._closed = True
        os.close(self._wake)

    def records(self) -> Iterator[TimedRecord | RecordsLost]:
        """All records in time order, until the end; waits for them. Raises what ended the thread, if that failed."""
        while (batch := self.next_batch()) is not None:
            for number, record in enumerate(batch):
                if number % _GIVE_WAY_EVERY == 0:
                    self._give_way()
                yield record

    def next_batch(self) -> Batch | None:
        """Records in time order; waits for some, None at the end."""
        batch = self._queue.get()
        if batch is None:
            # Whoever asks again gets the same answer.
            self._queue.put(None)
            if self._failure is not None:
                raise self._failure
            return None
        self._taken_bytes += _bytes_of(batch)
        return batch

    def _give_way(self) -> None:
        """Wait a moment while the rings fill fast.

        Decoding is put off rather than records lost: the queue has room for much more than the rings.
        """
        if not self._calm.is_set():
            self._calm.wait(_GIVE_WAY_S)

    def _run(self) -> None:
        try:
            self._drain_until_end()
        except BaseException as error:
            self._failure = error
        finally:
            self._calm.set()
            self._queue.put(None)

    def _drain_until_end(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for ring in self._rings:
            if ring.fd >= 0:
                poll.register(ring.fd, select.POLLIN)
        for fd in self._alive:
            poll.register(fd, 0)
        if self._ended is not None:
            self._alive = {self._ended}
            if self._ended >= 0:
                poll.register(self._ended, select.POLLIN)
        quiet_rounds = 0
        while self._alive and not self._stopping:
            if self._pause is not None:
                wait = self._pause.seconds * 1000
            else:
                wait = _IDLE_WAIT_MS if quiet_rounds > _IDLE_AFTER_ROUNDS else _BUSY_WAIT_MS
            for fd, state in poll.poll(wait):
                # Events are not asked for POLLIN.
                if fd in self._alive and state & (select.POLLHUP | select.POLLERR | select.POLLIN):
                    poll.unregister(fd)
                    self._alive.discard(fd)
            quiet_rounds = 0 if self._round() else quiet_rounds + 1
        self._disarm()
        self._round()
        self._deliver(len(self._pending))

    def _round(self) -> bool:
        horizon = time.monotonic_ns() - _SETTLE_NS
        fresh: list[TimedRecord] = []
        queued = self._kept_bytes - self._taken_bytes
        hurried = crowded = False
        for ring in self._rings:
            filled = ring.drain(self._layouts, fresh, keep_samples=queued < _QUEUE_BYTES)
            hurried = hurried or filled > ring.size >> 4
            crowded = crowded or (ring.fd < 0 and filled > ring.size >> 3)
        if self._pause is not None:
            self._pause.after(crowded=crowded)
        if hurried and queued < _QUEUE_BYTES // 2:
            self._calm.clear()
        else:
            self._calm.set()
        if fresh:
            self._pending += fresh
            self._pending.sort(key=_time)
            self._kept_bytes += _bytes_of(fresh)
        for ring in self._rings:
            if ring.skipped:
                self._queue.put([RecordsLost(horizon, ring.cpu, ring.skipped)])
                ring.skipped = 0
        if self._pending:
            self._deliver(bisect_right(self._pending, horizon, key=_time))
        return bool(fresh or self._pending)

    def _deliver(self, count: int) -> None:
        if not count:
            return
        batch: Batch = [*self._pending[:count]]
        del self._pending[:count]
        self._queue.put(batch)


def _keep_freed_memory() -> None:
    # glibc gives freed memory back at once, and a page fault for each new page made a record of 4 KiB cost four
    # times as much. Other C libraries have no mallopt, or ignore it.
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _QUEUE_BYTES)
        libc.mallopt(_M_TOP_PAD, _HEAP_STEP)


def _bytes_of(records: Sequence[TimedRecord | RecordsLost]) -> int:
    return sum(len(item[2]) + _RECORD_OVERHEAD for item in records if isinstance(item, tuple))
