"""How long buffers are left alone that nothing tells of when they have something."""

from __future__ import annotations


class LookPause:
    """The time to the next look, in `seconds`: ever longer, and short again where buffers fill fast.

    Each look costs processor time that whoever is recorded could have had, and what is not read in time is lost.
    It begins with short ones: what is asked about a program at its begin is soon known.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self.seconds = shortest
        self._shortest = shortest
        self._longest = longest

    def after(self, *, crowded: bool) -> float:
        """The pause after a look: `crowded` where so much came that after the longest one there may be too much."""
        wanted = self.seconds / 4 if crowded else self.seconds * 2
        self.seconds = min(max(wanted, self._shortest), self._longest)
        return self.seconds
