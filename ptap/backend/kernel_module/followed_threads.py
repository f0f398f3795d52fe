"""Which processes are the target's, as perf tells: those of a command count from its exec on, not from the fork."""

from __future__ import annotations

from relay_reader.capture import Event, MappingAdded, ProcessExeced, ProcessForked, ThreadExited, ThreadNamed


class FollowedThreads:
    """The processes of the target that live, by the events that perf gives of them and of nobody else."""

    def __init__(self) -> None:
        self._threads: dict[int, set[int]] = {}

    def apply(self, event: Event) -> None:
        """Follow an event of a process of the target."""
        match event:
            case ProcessForked(pid=pid, tid=tid) | ThreadNamed(pid=pid, tid=tid):
                self._threads.setdefault(pid, set()).add(tid)
            case ProcessExeced(pid=pid) | MappingAdded(pid=pid):
                # The thread that ran exec has the process's number from then on.
                self._threads.setdefault(pid, set()).add(pid)
            case ThreadExited(pid=pid, tid=tid):
                threads = self._threads.get(pid, set())
                threads.discard(tid)
                if not threads:
                    self._threads.pop(pid, None)
            case _:
                pass

    def __contains__(self, pid: int) -> bool:
        return pid in self._threads
