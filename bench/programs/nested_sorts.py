"""Python code that calls itself through the interpreter's C functions, and waits at the bottom.

Each level costs seven frames and five inlined calls in a build of Debian's; `ready` is printed when it is there.
"""

import signal
import sys


def level(left: int) -> list[int]:
    if left == 0:
        print("ready", flush=True)
        signal.pause()
    return sorted([left], key=lambda each: len(level(each - 1)))


level(int(sys.argv[1]))
