"""Of which frames a trace shows the arguments."""

from __future__ import annotations

from enum import Enum


class ArgumentFrames(Enum):
    """Whose arguments are read."""

    NONE = "none"
    PROBED = "probed"
    ALL = "all"
