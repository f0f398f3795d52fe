"""Sessions with programs in them: their places, their tables, and what the traced machine checks of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cfi_tables.elf_image import ElfImage
from cfi_tables.table import CompactTable
from ptap.kernel_module.program_tables import write_tables
from ptap.kernel_module.user_place import is_user_point, parse_user_point, user_places
from ptap.probe.program_path import library_closure
from ptap.probe.resolve import ProbeNotFound, Resolver
from ptap_target.session_folder import FORMAT, Message, SessionError, SessionFolder
from relay_reader.capture import Mapping
from relay_reader.record_layout import ProbeKind
from unwind.capture_images import CaptureImages

_SOURCE = """
__attribute__((noinline)) int twice(int a) { return a * 2; }
int main(int argc, char **argv) { (void)argv; return twice(argc); }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory, require_tool) -> Path:
    require_tool("gcc", "gcc")
    folder = tmp_path_factory.mktemp("program")
    (folder / "a.c").write_text(_SOURCE)
    command = ["gcc", "-O1", "-g", "-Wl,--build-id", "-o", str(folder / "a"), str(folder / "a.c")]
    subprocess.run(command, check=True)
    return folder / "a"


def _address(program: Path, name: str) -> int:
    listed = subprocess.run(["nm", str(program)], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[0], 16) for line in listed.splitlines() if line.split()[-1] == name)


def test_places_are_offsets_in_the_file(program):
    image = ElfImage.open(program)
    for suffix, kind in (("", ProbeKind.USER_ENTRY), (".return", ProbeKind.USER_RETURN)):
        text = f'process("{program}").function("twice"){suffix}'
        assert is_user_point(text) and not is_user_point('kernel.function("twice")')
        (place,) = user_places(Resolver((), ()), parse_user_point(text))
        assert (place.kind, place.symbol, place.address) == (kind, str(program), _address(program, "twice"))
        assert image.offset_to_address(place.offset) == place.address
        assert image.build_id is not None and place.build_id == image.build_id.hex()
    with pytest.raises(ProbeNotFound, match="name the program"):
        parse_user_point('process.function("twice")')


def test_tables_stand_by_build_id(program, tmp_path):
    """Of the program, and of each library that the dynamic linker loads for it."""
    image = ElfImage.open(program)
    files = write_tables([str(program), str(program)], image, tmp_path)
    paths = {entry["path"] for entry in files.values()}
    assert paths == {str(program), *(str(Path(each).resolve()) for each in library_closure(str(program)))}
    assert any("libc.so" in path for path in paths)
    for build_id, entry in files.items():
        table = CompactTable.load(tmp_path / entry["table"])
        first, end = table.text_range
        assert first < end and ElfImage.open(entry["path"]).build_id == bytes.fromhex(build_id)


def _session(folder: Path, description: dict) -> SessionFolder:
    nothing = Message("", b"")
    return SessionFolder(folder / "module", {"format": FORMAT, **description}, [], nothing)


def test_the_traced_machine_has_tables_and_checks_programs(program, tmp_path):
    image = ElfImage.open(program)
    assert image.build_id is not None
    build_id = image.build_id.hex()
    files = write_tables([str(program)], image, tmp_path)
    probe = {"name": "p", "path": str(program), "build_id": build_id}
    session = _session(tmp_path, json.loads(json.dumps({"files": files, "probes": [probe, {"name": "k"}]})))
    session.check_programs()
    assert session.table_of(build_id) == (tmp_path / files[build_id]["table"]).read_bytes()
    assert session.table_of("00") is None
    (tmp_path / files[build_id]["table"]).unlink()
    with pytest.raises(SessionError, match="not whole"):
        session.table_of(build_id)
    for changed, reason in (({"build_id": "00"}, "not the file"), ({"path": "/nowhere"}, "No such file")):
        with pytest.raises(SessionError, match=reason):
            _session(tmp_path, {"probes": [probe | changed]}).check_programs()


def test_files_of_a_capture_are_found(program, tmp_path):
    """By build-id where the session names them, under a root else; what is in no file is in the capture."""
    image = ElfImage.open(program)
    build_id = image.build_id
    assert build_id is not None
    kernel = str(program)
    images = CaptureImages({build_id: str(program)}, {b"v": program.read_bytes()}, (kernel,), str(tmp_path))
    assert images.open(Mapping(0, 1, 0, "/elsewhere", build_id), 1).build_id == build_id
    assert images.open(Mapping(0, 1, 0, "[vdso]", b"v"), 1).build_id == build_id
    assert images.open(Mapping(0, 1, 0, kernel, None), 0).build_id == build_id
    (tmp_path / "under").write_bytes(program.read_bytes())
    assert images.open(Mapping(0, 1, 0, "/under (deleted)", None), 1).build_id == build_id
    with pytest.raises(FileNotFoundError, match="sysroot"):
        images.open(Mapping(0, 1, 0, "/missing", None), 1)
