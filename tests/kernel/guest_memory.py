"""Memory that the kernel has in use, as a guest sees it: what is compared before and after. Standard library only."""

import contextlib
import subprocess
import time
from pathlib import Path

SAMPLES, PAUSE_S = 8, 0.7
"""Together longer than the kernel keeps what kfree_rcu() is to free (KFREE_DRAIN_JIFFIES: 5 s)."""


def in_use():
    """Memory by owner: objects of each slab cache and how many a slab has, per-CPU memory, code that is gone.

    Of objects the least of several counts, which holds what is kept, and not what waits for kfree_rcu().
    """
    slabs = {}
    with contextlib.ExitStack() as opened:
        # What is free in a CPU's slabs counts as used, until its cache is shrunk. The files stay open meanwhile: each
        # open takes an object of kmalloc-96, and its close leaves it to kfree_rcu(): some 300 would come and go.
        shrinking = [
            opened.enter_context(path.open("wb", buffering=0)) for path in Path("/sys/kernel/slab").glob("*/shrink")
        ]
        for _ in range(SAMPLES):
            time.sleep(PAUSE_S)
            for file in shrinking:
                file.write(b"1")
            for name, (objects, a_slab) in _slabs().items():
                slabs[name] = [min(objects, slabs.get(name, [objects])[0]), a_slab]
    areas = [line for line in Path("/proc/vmallocinfo").read_text().splitlines() if "ptap" in line]
    strange = [line for line in Path("/proc/vmallocinfo").read_text().splitlines() if " 0xffffffffc" in line]
    return {"slabs": slabs, "percpu kB": kilobytes("Percpu"), "areas": areas + strange}


def _slabs():
    """Objects in use and objects a slab, by cache."""
    lines = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:]]
    return {words[0]: (int(words[1]), int(words[4])) for words in lines}


def kilobytes(name):
    """A line of /proc/meminfo, 0 where there is none."""
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(memory[name].split()[0]) if name in memory else 0


def leaks():
    """What kmemleak has found, where the kernel has it; None elsewhere."""
    subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=False, capture_output=True)
    file = Path("/sys/kernel/debug/kmemleak")
    if not file.exists():
        return None
    for _ in range(2):
        time.sleep(6)  # younger objects are not looked at
        file.write_text("scan")
    return file.read_text()
