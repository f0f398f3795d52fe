"""What probe points of a kernel and of modules resolve to: in a fake vmlinux and in objects, linked and compiled here.

Four files of the fake have a `do_open`; one of them is inlined into its only caller. Its first function lies before
`_stext`, and one lies in code that a kernel frees when it has started. Compared with nm, readelf and addr2line.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cfi_tables.elf_image import ElfImage
from ptap.kernel_module.kernel_point import parse_kernel_point
from ptap.kernel_module.module_files import ModuleFiles
from ptap.kernel_module.module_session import ModuleSession
from ptap.kernel_module.places import KernelPlace
from ptap.kernel_module.resolve import KernelResolver
from ptap.probe.point import ProbeKind, ProbeSyntaxError
from ptap.probe.resolve import ProbeNotFound
from relay_reader import record_layout, record_schema

_FILES = {
    "head.c": "int before_text(int a) { return a + 1; }\n",
    "namei.c": (
        "int namei_state; extern int deep(int);\n"
        "static __attribute__((noinline)) int do_open(int a) {\n\tint b = deep(a);\n"
        "\tif (b > 3)\n\t\tb = deep(b + 1) * 9;\n\treturn b + 1;\n}\n"
        "int path_open(int a) { return do_open(a) * 3; }\n"
    ),
    "open.c": (
        "extern int deep(int);\nint filp_open(int a) { return deep(a) * 7; }\n"
        "static __attribute__((noinline)) int do_open(int a) { return deep(a) + 2; }\n"
        "int sys_open(int a) { return do_open(a) * 5; }\n"
    ),
    "mqueue.c": (
        "extern int deep(int);\nint deep(int a) { __asm__ volatile(\"\"); return a ^ 1; }\n"
        "static __attribute__((noinline)) int do_open(int a) { return deep(a) + 3; }\n"
        "int sys_mq_open(int a) { return do_open(a) * 11; }\n"
    ),
    "nfsctl.c": (
        "extern int deep(int);\nstatic inline __attribute__((always_inline)) int do_open(int a) {\n"
        "\treturn deep(a) * 13;\n}\n"
        "int sys_nfsservctl(int a)\n{\n\tif (a < 2)\n\t\treturn deep(a);\n\treturn do_open(a) + 1;\n}\n"
    ),
    "data.c": (
        "int init_task = 1, register_kprobe = 2;\n"
        "struct { void *a, *b; } __tracepoint_sys_enter, __tracepoint_sched_switch, __tracepoint_sched_wakeup;\n"
        "struct event_class { const char *system; } raw = { \"raw_syscalls\" }, sched = { \"sched\" };\n"
        "struct event_call { void *next, *previous; struct event_class *class; };\n"
        "struct event_call event_sys_enter = { 0, 0, &raw }, event_sched_switch = { 0, 0, &sched };\n"
        "__attribute__((section(\".init.text\"))) int start_it(int a) { return a; }\n"
        "__attribute__((section(\".init.text\"))) int start_two(int a) { return a; }\n"
    ),
}  # fmt: skip
_LAYOUT = """SECTIONS {
    . = 0xffffffff81000000;
    .text : { *head.o(.text*) _stext = .; *(.text*) _etext = .; }
    .init.text : { _sinittext = .; *(.init.text) _einittext = .; }
    .data : { *(.data* .rodata* .bss*) *(COMMON) }
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fake")
    for name, text in _FILES.items():
        (folder / name).write_text(text)
    (folder / "layout.ld").write_text(_LAYOUT)
    flags = ["-g", "-O2", "-mcmodel=kernel", "-fno-pic", "-fno-pie", "-ffreestanding", "-fcf-protection=none"]
    subprocess.run(["gcc", *flags, "-fno-ipa-sra", "-fno-ipa-cp", "-c", *_FILES], cwd=folder, check=True)
    objects = [name.replace(".c", ".o") for name in _FILES]
    link = ["ld", "-T", "layout.ld", "-e", "_stext", "--build-id", "-o", "vmlinux", *objects]
    subprocess.run(link, cwd=folder, check=True)
    subprocess.run(["objcopy", "--strip-debug", "vmlinux", "bare"], cwd=folder, check=True)
    subprocess.run(["ld", "-r", "-o", "plain.ko", "namei.o", "open.o"], cwd=folder, check=True)
    sections = ["gcc", *flags, "-ffunction-sections", "-fno-ipa-sra", "-fno-ipa-cp", "-r", "-nostdlib"]
    (folder / "extra.c").write_text("struct { void *a, *b; } __tracepoint_split_done;\n")
    subprocess.run([*sections, "-o", "my-split.ko", "namei.c", "open.c", "data.c", "extra.c"], cwd=folder, check=True)
    return folder


def _listed(path: Path) -> list[tuple[int, str, str]]:
    lines = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout.splitlines()
    return [(int(fields[0], 16), fields[1], fields[2]) for fields in map(str.split, lines) if len(fields) == 3]


def _resolver(folder: Path, name: str = "vmlinux", system_map: Path | None = None, *modules: str) -> KernelResolver:
    files = ModuleFiles([folder / each for each in modules])
    return KernelResolver(ElfImage.open(folder / name), str(system_map) if system_map else None, files)


def _places(resolver: KernelResolver, text: str, **options) -> list[KernelPlace]:
    return resolver.places(parse_kernel_point(text), **options)


def _reached(place: KernelPlace, listed: list[tuple[int, str, str]]) -> int:
    """Where the kernel's lookup of the symbol leads: to the first of that name."""
    return min(address for address, _, name in listed if name == place.symbol) + place.offset


def test_four_functions_of_one_name(folder):
    found = _places(_resolver(folder), 'kernel.function("do_open")')
    listed = _listed(folder / "vmlinux")
    assert sorted(each.address for each in found if not each.inlined_into) == sorted(
        address for address, _, name in listed if name == "do_open"
    )
    assert {Path(each.file or "").name: each.inlined_into for each in found} == {
        "namei.c": None, "open.c": None, "mqueue.c": None, "nfsctl.c": "sys_nfsservctl",
    }  # fmt: skip
    assert len({each.address for each in found}) == len({each.name for each in found}) == 4
    for place in found:
        assert _reached(place, listed) == place.address and place.symbol != "do_open"
        (line,) = _addr2line(folder, place.address)
        assert line.startswith(Path(place.file or "").name)
    (inlined,) = (each for each in found if each.inlined_into)
    assert inlined.name == 'kernel.function("do_open@nfsctl.c:2").inline' and inlined.symbol == "sys_nfsservctl"


def _addr2line(folder: Path, *addresses: int) -> list[str]:
    command = ["addr2line", "-se", str(folder / "vmlinux"), *map(hex, addresses)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_variants_choose(folder):
    resolver = _resolver(folder)
    everything = {each.address for each in _places(resolver, 'kernel.function("do_open")')}
    calls = {each.address for each in _places(resolver, 'kernel.function("do_open").call')}
    returns = {each.address for each in _places(resolver, 'kernel.function("do_open").return')}
    inlined = {each.address for each in _places(resolver, 'kernel.function("do_open").inline')}
    assert calls == returns and len(calls) == 3 and len(inlined) == 1
    assert calls | inlined == everything and not calls & inlined
    with pytest.raises(ProbeNotFound, match="no inlined copy"):
        _places(resolver, 'kernel.function("sys_open").inline')
    with pytest.raises(ProbeNotFound, match=r"inlined everywhere \(into sys_nfsservctl"):
        _places(resolver, 'kernel.function("do_open@nfsctl.c").return')


def test_a_file_chooses(folder):
    resolver = _resolver(folder)
    for file in ("namei.c", "open.c", "mqueue.c", "nfsctl.c"):
        (place,) = _places(resolver, f'kernel.function("do_open@{file}")')
        assert Path(place.file or "").name == file
    (place,) = _places(resolver, 'kernel.function("*@mqueue.c:4")')
    assert place.function == "sys_mq_open" and place.optional
    with pytest.raises(ProbeNotFound, match="no function do_open at that place"):
        _places(resolver, 'kernel.function("do_open@head.c")')


def test_statements(folder):
    resolver = _resolver(folder)
    (place,) = _places(resolver, 'kernel.statement("do_open@namei.c:5")')
    assert _addr2line(folder, place.address) == ["namei.c:5"]
    assert place.name == 'kernel.statement("do_open@namei.c:5")'
    (same,) = _places(resolver, f"kernel.statement({place.address:#x})")
    assert (same.symbol, same.offset, same.address) == (place.symbol, place.offset, place.address)
    with pytest.raises(ProbeNotFound, match="nearest lines with code: "):
        _places(resolver, 'kernel.statement("do_open@namei.c:99")')
    with pytest.raises(ProbeNotFound, match="no address of code"):
        _places(resolver, "kernel.statement(0x1000)")


def test_code_before_stext_is_reached_and_code_of_the_start_is_not(folder):
    resolver = _resolver(folder)
    (place,) = _places(resolver, 'kernel.function("before_text")')
    stext = next(address for address, _, name in _listed(folder / "vmlinux") if name == "_stext")
    assert place.address < stext and (place.symbol, place.offset) == ("before_text", 0)
    with pytest.raises(ProbeNotFound, match=r"start_it is code of the kernel's start \(.init.text\)"):
        _places(resolver, 'kernel.function("start_it")')
    # A wildcard means the others.
    assert {each.function for each in _places(resolver, 'kernel.function("s*").call')} == {
        "sys_open", "sys_mq_open", "sys_nfsservctl",
    }  # fmt: skip


@pytest.mark.parametrize("source", ["bare", "system map"])
def test_without_debug_information_symbols_give_places_without_lines(folder, tmp_path, source):
    system_map = None
    if source == "system map":
        system_map = tmp_path / "System.map"
        listed = "".join(f"{address:016x} {kind} {name}\n" for address, kind, name in _listed(folder / "vmlinux"))
        system_map.write_text(listed)
    resolver = _resolver(folder, "bare", system_map)
    found = _places(resolver, 'kernel.function("do_open")')
    assert [(each.file, each.line) for each in found] == [(None, None)] * 3
    for place in found:
        assert _reached(place, _listed(folder / "bare")) == place.address
    for text in ('kernel.function("do_open").inline', 'kernel.statement("do_open@namei.c:5")'):
        with pytest.raises(ProbeNotFound, match="has no debug information"):
            _places(resolver, text)
    for text in ('kernel.function("do_open@namei.c")', 'module("m").function("do_open")', "timer.profile(9)"):
        with pytest.raises(ProbeNotFound, match="symbols alone do not tell"):
            resolver.symbols.places(parse_kernel_point(text))
    (trace,) = _places(resolver, 'kernel.trace("sys_enter")')
    assert trace.name == 'kernel.trace("sys_enter")'


def test_tracepoints(folder):
    resolver = _resolver(folder)
    names = [each.function for each in _places(resolver, 'kernel.trace("s*")')]
    assert names == ["sched_switch", "sched_wakeup", "sys_enter"]
    (place,) = _places(resolver, 'kernel.trace("raw_syscalls:sys_enter")')
    assert (place.symbol, place.name) == ("sys_enter", 'kernel.trace("raw_syscalls:sys_enter")')
    with pytest.raises(ProbeNotFound, match="belongs to sched"):
        _places(resolver, 'kernel.trace("irq:sched_switch")')
    with pytest.raises(ProbeNotFound, match="single system calls"):
        _places(resolver, 'kernel.trace("sys_enter_openat")')


def test_tracepoints_of_modules(folder):
    """Of the module that is named; or of those whose files are, where vmlinux has none."""
    resolver = _resolver(folder, "vmlinux", None, "my-split.ko", "plain.ko")
    (own,) = _places(resolver, 'module("my-split").trace("any:sys_enter")')
    assert (own.symbol, own.name) == ("my_split:sys_enter", 'module("my_split").trace("any:sys_enter")')
    (found,) = _places(resolver, 'kernel.trace("split_done")')
    assert (found.symbol, found.name, found.address) == ("my_split:split_done", 'kernel.trace("split_done")', 0)
    (in_vmlinux,) = _places(resolver, 'kernel.trace("sys_enter")')
    assert in_vmlinux.symbol == "sys_enter"
    with pytest.raises(ProbeNotFound, match=r"no tracepoint of that name in .*plain.ko"):
        _places(resolver, 'module("plain").trace("split_done")')
    with pytest.raises(ProbeNotFound, match=r'One of a module is module\("M"\)'):
        _places(_resolver(folder), 'kernel.trace("split_done")')


def test_timers():
    point = parse_kernel_point("timer.profile(97)")
    assert (point.kind, point.frequency) == (ProbeKind.TIMER, 97)
    assert parse_kernel_point("timer . profile").frequency
    for text in ("timer.profile(0)", "timer.profile(100001)"):
        with pytest.raises(ProbeSyntaxError, match="1 to 100000"):
            parse_kernel_point(text)


@pytest.mark.parametrize(
    "text", ['kernel.statement("f@a.c")', 'kernel.statement("f@a.c:1").return', 'module(M).function("f")']
)
def test_what_is_no_probe_point(text):
    with pytest.raises(ProbeSyntaxError, match=r"for example|needs its line"):
        parse_kernel_point(text)


def _sections(path: Path) -> list[tuple[str, int, int]]:
    """(name, size, alignment) of the sections of code, as readelf has them."""
    listed = subprocess.run(["readelf", "-SW", str(path)], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"\] (\S+) +PROGBITS +\w+ \w+ (\w+) \w+ +AX +\d+ +\d+ +(\d+)", listed)
    return [(name, int(size, 16), int(alignment)) for name, size, alignment in rows if int(size, 16)]


def test_a_module_with_sections_of_its_own_for_each_function(folder):
    resolver = _resolver(folder, "vmlinux", None, "my-split.ko")
    sections = _sections(folder / "my-split.ko")
    assert {".text.path_open", ".text.sys_open", ".text.do_open"} <= {name for name, _, _ in sections}
    starts = {}
    at = 0
    for name, size, alignment in sections:
        at = -(-at // alignment) * alignment
        starts[name] = at
        at += size
    found = _places(resolver, 'module("my-split").function("do_open")')
    assert len(found) == 2 and len({each.address for each in found}) == 2
    for place in found:
        # Both lie in one section, where the first of that name is what leads to both.
        assert place.symbol == "my_split:do_open" and place.address - place.offset == starts[".text.do_open"]
    (other,) = _places(resolver, 'module("my_split").function("sys_open").return')
    assert (other.symbol, other.offset, other.address) == ("my_split:sys_open", 0, starts[".text.sys_open"])
    (initial,) = _places(resolver, 'module("my_split").function("start_it")')
    assert initial.address == starts[".init.text"], "a module's start can be probed"


def test_what_is_sent_of_a_module(folder):
    resolver = _resolver(folder, "vmlinux", None, "my-split.ko")
    session = ModuleSession.of("my_split", resolver.module("my_split"))
    assert session.problem is None and [each.name for each in session.sections] == [
        name for name, _, _ in _sections(folder / "my-split.ko")
    ]
    content = session.message(3)[record_layout.MESSAGE_HEADER_SIZE :]
    head = record_schema.MODULE_MESSAGE.parse(content)
    assert (head.number, head.section_count, head.name.rstrip(b"\0")) == (3, len(session.sections), b"my_split")
    at = record_layout.MODULE_MESSAGE_SIZE
    offsets = {(name, address) for address, _, name in _listed(folder / "my-split.ko")}
    for each in session.sections:
        section = record_schema.MODULE_SECTION.parse(content[at:])
        at += record_layout.MODULE_SECTION_SIZE
        assert (section.start, section.end) == (each.start, each.end)
        # nm counts from the section.
        assert (section.first.rstrip(b"\0").decode(), section.first_address - section.start) in offsets
        assert (section.last.rstrip(b"\0").decode(), section.last_address - section.start) in offsets
        assert section.start <= section.first_address <= section.last_address < section.end
    assert content[at:] == session.table != b""


def test_a_file_that_is_not_there_or_no_module(folder):
    with pytest.raises(ProbeNotFound, match=r"--module-file other\.ko"):
        _places(_resolver(folder), 'module("other").function("f")')
    with pytest.raises(ProbeNotFound, match="no kernel module"):
        _places(_resolver(folder, "vmlinux", None, "bare"), 'module("bare").function("do_open")')


def test_the_list_shows_file_line_and_symbol(folder):
    vmlinux = ["--vmlinux", str(folder / "vmlinux"), "--module-file", str(folder / "plain.ko")]
    probes = ['kernel.function("do_open")', 'module("plain").function("do_open@namei.c")', "timer.profile(97)"]
    command = [sys.executable, "-m", "ptap", "list", *probes, *vmlinux]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(text) == 6 and sum("inlined into sys_nfsservctl" in line for line in text) == 1
    assert any(re.search(r"namei\.c:2\b", line) and "filp_open" not in line for line in text)
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True).stdout
    places = [json.loads(line) for line in done.splitlines()]
    listed = _listed(folder / "vmlinux")
    for place in places[:4]:
        start = min(address for address, _, name in listed if name == place["symbol"])
        assert place["address"] == hex(start + place["offset"]) and place["module"] == "[kernel]"
        assert place["line"] and place["file"]
    assert places[4]["symbol"].startswith("plain:") and places[4]["module"] == "plain"
    assert places[5]["address"] is None
    done = subprocess.run([*command[:4], 'kernel.function("do_opne")', *vmlinux], capture_output=True, text=True)
    assert done.returncode == 2 and "do_open" in done.stderr
    done = subprocess.run([*command[:4], 'kernel.function("do_open")'], capture_output=True, text=True)
    assert done.returncode == 2 and "--vmlinux" in done.stderr
