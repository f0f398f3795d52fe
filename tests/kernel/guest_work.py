"""The work of the endurance test, run in a guest: modules come and go, programs make calls. Standard library only.

`guest_work.py PROGRAM SECONDS FILE`: goes on for so long, and writes to FILE how often the module was loaded.
"""

import subprocess
import sys
import time
from pathlib import Path

PROBED, READS = "/guest/probed.ko", "/guest/counted_reads"
NOTES, TOLD = Path("/tmp/endurance.notes"), Path("/tmp/endurance.told")
"""The program's: a line a call of what is probed in it; what it waits for, which is there."""
PAUSE_S = 0.02


def work(program, seconds):
    """A module comes, is used and goes, beside system calls of many kinds, unwanted reads, the program's own calls."""
    end = time.monotonic() + seconds
    commands = (
        ["/guest/workload", "1"],
        [READS, "0", "100"],
        [READS, "1", "100"],
        [program, str(NOTES), str(TOLD), "1"],
    )
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    loads = 0
    while time.monotonic() < end:
        subprocess.run(["insmod", PROBED], check=True)
        loads += 1
        subprocess.run(["cat", "/proc/ptap_probed", "/proc/ptap_probed"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["rmmod", "probed"], check=True)
        for number, child in enumerate(running):
            if child.poll() is not None:
                assert child.returncode == 0, child.args
                running[number] = subprocess.Popen(commands[number], stdout=subprocess.DEVNULL)
        time.sleep(PAUSE_S)
    for child in running:
        assert child.wait() == 0, child.args
    return loads


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(str(work(sys.argv[1], int(sys.argv[2]))))
