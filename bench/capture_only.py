"""A capture whose events are thrown away: `python -m bench.capture_only BACK_END PROGRAM ARGUMENTS...`.

What a back end costs without walk, names and report. The program's own output passes through.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the program with a probe on its function `probed`."""
    from ptap.backend.choice import open_capture
    from ptap.backend.live_capture import CaptureLimits, Target
    from ptap.probe.point import parse_probe_point
    from ptap.probe.resolve import Resolver
    from relay_reader.capture import RecordsLost, Sample

    back_end, *command = sys.argv[1:]
    target = Target(command=tuple(command))
    point = parse_probe_point(f'process("{command[0]}").function("probed")')
    places = [each.place for each in Resolver(target.command, ()).resolve(point)]
    capture = open_capture(back_end, target, places, CaptureLimits(65_528), [])
    hits = lost = 0
    try:
        capture.start()
        for event in capture.events():
            hits += isinstance(event, Sample)
            lost += event.count if isinstance(event, RecordsLost) else 0
    finally:
        capture.close()
    print(f"ptap: {hits} hits, {lost} records lost", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
