"""The program on the traced machine, with files in place of the module's: what it writes while there is room."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from kernel_module.packed_record import hit_record

from ptap_target.collector import CaptureOutput, Collector
from ptap_target.session_folder import Message, SessionFolder
from relay_reader.capture import Sample
from relay_reader.module_capture import ModuleCapture

HITS = [[hit_record(time_ns=10 * number + cpu, cpu=cpu, sequence=number) for number in (1, 2, 3)] for cpu in (0, 1)]


class ModuleOfFiles:
    """Stands for the module: the records of each CPU lie in a file."""

    def __init__(self, folder: Path) -> None:
        self.sent: list[str] = []
        self._paths = [folder / f"cpu{cpu}" for cpu in range(len(HITS))]
        for path, hits in zip(self._paths, HITS, strict=True):
            path.write_bytes(b"".join(hits))

    def record_files(self) -> list[int]:
        return [os.open(path, os.O_RDONLY) for path in self._paths]

    def send(self, message: Message) -> None:
        self.sent.append(message.what)


def run(folder: Path, output: CaptureOutput) -> tuple[int, ModuleOfFiles]:
    module = ModuleOfFiles(folder)
    messages = [Message("one", b""), Message("start", b"")]
    session = SessionFolder(folder, {"probes": [{"name": "p"}], "modules": []}, messages, Message("stop", b""))
    collector = Collector(session, module, output)  # type: ignore[arg-type]
    program = f"open({str(folder / 'ran')!r}, 'w').close(); raise SystemExit(3)"
    return collector.run([sys.executable, "-c", program], None), module


def test_a_capture_has_the_records_of_all_cpus(tmp_path: Path) -> None:
    output = CaptureOutput(tmp_path / "capture")
    status, module = run(tmp_path, output)
    output.close()
    assert status == 3 and module.sent == ["one", "start", "stop"] and output.problems == []
    capture = ModuleCapture(tmp_path / "capture")
    assert [event.time_ns for event in capture.events() if isinstance(event, Sample)] == [10, 11, 20, 21, 30, 31]
    assert capture.description["probes"] == [{"name": "p"}] and capture.problems == []


def test_a_full_disk_does_not_end_the_run(tmp_path: Path) -> None:
    output = CaptureOutput(Path("/dev/full"))
    status, module = run(tmp_path, output)
    output.close()
    assert status == 3 and module.sent[-1] == "stop" and (tmp_path / "ran").exists()
    (line,) = output.problems
    found = re.search(r"No space left on device: what was recorded until then is in it, and (\d+) bytes", line)
    # The mappings of the program are in it, too.
    assert found is not None and int(found[1]) > sum(len(hit) for hits in HITS for hit in hits)


@pytest.mark.parametrize("room", [0, 1, 100, len(HITS[0][0]) + 5])
def test_what_had_room_is_in_the_file(tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes a part of a write before it takes no more, as write(2) tells."""
    output = CaptureOutput(tmp_path / "capture")
    output.write(b"ptap kernel capture 1\n{}\n")
    file = output._file

    class Full:
        left = room

        def write(self, content: memoryview) -> int:
            taken = min(self.left, len(content))
            if not taken:
                raise OSError(28, "No space left on device")
            self.left -= taken
            return file.write(content[:taken]) or 0

    monkeypatch.setattr(output, "_file", Full())
    records = b"".join(HITS[0])
    output.write(records)
    output.write(records)
    file.close()
    assert (tmp_path / "capture").read_bytes() == b"ptap kernel capture 1\n{}\n" + records[:room]
    assert f"{2 * len(records) - room} bytes" in output.problems[0]
