"""Where probes of a kernel are set: found in a small program of which two files have functions by one name."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ptap_target
from cfi_tables.elf_image import ElfImage
from ptap.kernel_module import messages
from ptap.kernel_module.build import ModuleBuildError, built_module
from ptap.kernel_module.kernel_point import parse_kernel_point
from ptap.kernel_module.places import KernelSymbols
from ptap.probe.point import ProbeKind, ProbeSyntaxError
from ptap.probe.resolve import ProbeNotFound
from ptap_target.session_folder import DESCRIPTION, FORMAT, MESSAGES, SessionError, SessionFolder
from relay_reader import record_layout, record_schema

_FIRST = (
    "static __attribute__((noinline)) int twice(int a) { return a * 3; }\nint first(int a) { return twice(a) + 1; }\n"
)
_SECOND = (
    "int schedule = 4; int first(int);\n"
    "static __attribute__((noinline)) int twice(int a) { return a * 5; }\nint second(int a) { return twice(a) + 2; }\n"
    "int main(void) { return first(1) + second(2); }\n"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    for name, text in (("first.c", _FIRST), ("second.c", _SECOND)):
        (folder / name).write_text(text)
    command = ["gcc", "-O1", "-fno-toplevel-reorder", "-o", "program", "first.c", "second.c"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "program"


def _listed(program: Path) -> list[tuple[int, str, str]]:
    lines = subprocess.run(["nm", str(program)], capture_output=True, text=True, check=True).stdout.splitlines()
    return [(int(fields[0], 16), fields[1], fields[2]) for fields in map(str.split, lines) if len(fields) == 3]


def _symbols(program: Path, source: str, tmp_path: Path) -> KernelSymbols:
    if source == "vmlinux":
        return KernelSymbols.of_vmlinux(ElfImage.open(program))
    path = tmp_path / "System.map"
    path.write_text("".join(f"{address:016x} {kind} {name}\n" for address, kind, name in _listed(program)))
    return KernelSymbols.of_system_map(str(path))


@pytest.mark.parametrize("source", ["vmlinux", "system map"])
def test_functions_of_one_name_are_places_of_their_own(program, tmp_path, source):
    symbols = _symbols(program, source, tmp_path)
    places = symbols.places(parse_kernel_point('kernel.function("twice")'))
    addresses = {name: address for address, _, name in _listed(program)}
    assert [place.address for place in places] == sorted(a for a, _, name in _listed(program) if name == "twice")
    assert len(places) == 2
    for place in places:
        assert place.symbol != "twice" and addresses[place.symbol] + place.offset == place.address
        assert place.name == 'kernel.function("twice")'


@pytest.mark.parametrize("source", ["vmlinux", "system map"])
def test_a_name_of_its_own_needs_no_offset(program, tmp_path, source):
    symbols = _symbols(program, source, tmp_path)
    (place,) = symbols.places(parse_kernel_point('kernel.function("second").return'))
    assert (place.symbol, place.offset, place.point.kind) == ("second", 0, ProbeKind.RETURN)
    found = symbols.places(parse_kernel_point('kernel.function("[fs]*ond")'))
    assert [each.name for each in found] == ['kernel.function("second")']


@pytest.mark.parametrize("source", ["vmlinux", "system map"])
def test_anchors_may_be_data(program, tmp_path, source):
    listed = {name: address for address, _, name in _listed(program)}
    assert _symbols(program, source, tmp_path).address("schedule") == listed["schedule"]


def test_what_is_not_there(program, tmp_path):
    with pytest.raises(ProbeNotFound, match="no function of that name"):
        _symbols(program, "vmlinux", tmp_path).places(parse_kernel_point('kernel.function("nothing")'))
    subprocess.run(["strip", "-o", str(tmp_path / "stripped"), str(program)], check=True)
    with pytest.raises(ProbeNotFound, match="--system-map"):
        KernelSymbols.of_vmlinux(ElfImage.open(tmp_path / "stripped"))
    (tmp_path / "hidden").write_text("0000000000000000 T first\n")
    with pytest.raises(ProbeNotFound, match="as root"):
        KernelSymbols.of_system_map(str(tmp_path / "hidden"))


@pytest.mark.parametrize("text", ["kernel.function(vfs_read)", 'kernel.function("a").exit', 'process.function("a")'])
def test_what_is_no_probe_point(text):
    with pytest.raises(ProbeSyntaxError, match="vfs_read"):
        parse_kernel_point(text)


def test_a_probe_point_with_its_file():
    point = parse_kernel_point(' kernel . function ( "do_open@fs/namei.c:12" ) . return ')
    assert (point.function, point.file, point.line, point.kind) == ("do_open", "fs/namei.c", 12, ProbeKind.RETURN)


def test_messages_are_what_the_schema_says():
    told = messages.probe(3, record_layout.ProbeKind.RETURN, "vfs_read", 16, 0xFFFF_FFFF_8100_0000)
    head, body = told[: record_layout.MESSAGE_HEADER_SIZE], told[record_layout.MESSAGE_HEADER_SIZE :]
    assert record_schema.MESSAGE_HEADER.parse(head).kind == record_layout.MessageKind.PROBE
    parsed = record_schema.PROBE_MESSAGE.parse(body)
    assert (parsed.number, parsed.offset, parsed.address) == (3, 16, 0xFFFF_FFFF_8100_0000)
    assert parsed.symbol.rstrip(b"\0") == b"vfs_read"
    with pytest.raises(ValueError, match="more than 255 bytes"):
        messages.probe(0, record_layout.ProbeKind.ENTRY, "x" * 256, 0, 0)


def test_the_target_needs_the_standard_library_only():
    for path in Path(ptap_target.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                package = name.split(".")[0]
                assert package == "ptap_target" or package in sys.stdlib_module_names, (path, name)


def test_a_session_is_for_one_kernel(tmp_path):
    description = {
        "format": FORMAT,
        "build_id": "aa" * 20,
        "probes": [],
        "messages": [{"what": "a", "bytes": 3}, {"what": "b", "bytes": 2}],
    }
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    (tmp_path / MESSAGES).write_bytes(b"abcde")
    session = SessionFolder.open(tmp_path)
    assert [message.content for message in session.messages] == [b"abc"] and session.stop.content == b"de"
    notes = tmp_path / "notes"
    notes.write_bytes(b"\xaa" * 20)
    session.check_kernel(notes)
    notes.write_bytes(b"\xab" * 20)
    with pytest.raises(SessionError, match="not the running one"):
        session.check_kernel(notes)
    with pytest.raises(SessionError, match="ptap module build"):
        SessionFolder.open(tmp_path / "nothing")


def test_a_run_on_another_kernel_ends_with_its_reason(tmp_path):
    description = {"format": FORMAT, "build_id": "aa" * 20, "probes": [], "messages": [{"what": "stop", "bytes": 8}]}
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    (tmp_path / MESSAGES).write_bytes(bytes(8))
    for how in (["-m", "ptap", "run"], ["-m", "ptap_target"]):
        command = [sys.executable, *how, str(tmp_path), "-o", str(tmp_path / "capture"), "--", "true"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and "not the running one" in done.stderr
    assert not (tmp_path / "capture").exists()


def test_no_headers(tmp_path):
    with pytest.raises(ModuleBuildError, match="linux-headers"):
        built_module(tmp_path)
