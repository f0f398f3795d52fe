"""What names a kernel's addresses and what is refused: on small files that stand for a kernel and a module.

No kernel has to be downloaded for them. A program stands for vmlinux, an object for a module; nm and readelf tell their
symbols, from which the lists are made that a kernel shows.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from loaded_kernel import LoadedKernel, LoadedModule

from unwind.kallsyms import Kallsyms

Run = Callable[..., subprocess.CompletedProcess[str]]

KERNEL = """
volatile int value;
__attribute__((noinline)) int read_value(int x) { return value + x; }
__attribute__((noinline)) int _stext(int x) { return read_value(x) * 3; }
int main(int argc, char **argv) { (void)argv; return _stext(argc); }
"""
MODULE = """
extern int printk(const char *, ...);
static __attribute__((noinline)) int weigh(int x) { return printk("weigh") + x; }
__attribute__((noinline)) int drive(int x) { return weigh(x) * weigh(x + 1); }
__attribute__((section(".init.text"))) int init_drive(void) { return drive(1); }
"""
SLIDE = 0x7B60_0000
MODULE_START = 0xFFFF_FFFF_C012_3000


@dataclass
class Small:
    """The kernel that stands for one, and its files."""

    kernel: LoadedKernel
    folder: Path

    @property
    def words(self) -> list[str]:
        return ["--kernel", "--kallsyms", str(self.kernel.kallsyms)]

    def address_of(self, name: str) -> int:
        lines = [line.split() for line in self.kernel.kallsyms.read_text().splitlines()]
        return next(int(fields[0], 16) for fields in lines if fields[2] == name)


def compile_as(source: str, target: Path, *options: str) -> Path:
    text = target.with_suffix(".c")
    text.write_text(source)
    subprocess.run(
        ["gcc", "-g", "-O2", "-Wl,--build-id", *options, "-o", target, text], check=True, capture_output=True
    )
    return target


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Small:
    require_tool("gcc", "gcc")
    folder = tmp_path_factory.mktemp("small_kernel")
    (folder / "modules").mkdir()
    vmlinux = compile_as(KERNEL, folder / "vmlinux", "-no-pie")
    driver = compile_as(MODULE, folder / "modules" / "my-driver.ko", "-c", "-ffunction-sections")
    shown = folder / "shown"
    shown.mkdir()
    kernel = LoadedKernel(vmlinux, SLIDE, [LoadedModule("my_driver", driver, MODULE_START)], shown)
    kernel.write()
    return Small(kernel, folder)


def oracle(path: Path, section: str | None, offset: int) -> str:
    where = ["-j", section] if section else []
    return subprocess.run(
        ["addr2line", "-fipC", *where, "-e", path, hex(offset)], capture_output=True, text=True, check=True
    ).stdout


def test_kernel_and_module_in_one_batch(small: Small, symbolize: Run) -> None:
    """In the order of the addresses, known and unknown ones mixed."""
    kernel, module = small.kernel, small.kernel.modules[0]
    main = small.address_of("main")
    wanted = [
        (main + 1, oracle(kernel.vmlinux, None, main + 1 - SLIDE)),
        (0x10, "?? ??:0\n"),
        (module.sections[".text.drive"] + 2, oracle(module.path, ".text.drive", 2)),
        (module.sections[".text.weigh"] + 1, oracle(module.path, ".text.weigh", 1)),
        (small.address_of("read_value"), oracle(kernel.vmlinux, None, small.address_of("read_value") - SLIDE)),
        (module.sections[".init.text"], oracle(module.path, ".init.text", 0)),
    ]
    words = [*small.words, "--vmlinux", kernel.vmlinux, "--module-dir", small.folder / "modules"]
    done = symbolize(*words, *(hex(address) for address, _ in wanted))
    assert done.returncode == 0
    assert done.stdout.replace(" [my_driver] at ", " at ") == "".join(lines for _, lines in wanted)
    assert done.stdout.count("[my_driver]") == 3 and "??" not in "".join(lines for at, lines in wanted if at != 0x10)


def test_addresses_that_are_hidden_are_an_error(small: Small, symbolize: Run, tmp_path: Path) -> None:
    hidden = tmp_path / "kallsyms"
    hidden.write_text(re.sub(r"^[0-9a-f]{16}", "0" * 16, small.kernel.kallsyms.read_text(), flags=re.M))
    done = symbolize("--kernel", "--kallsyms", hidden, "0xffffffff81000000")
    assert done.returncode == 2 and "kptr_restrict" in done.stderr and str(hidden) in done.stderr
    nothing = tmp_path / "nothing"
    nothing.write_text("# this is no list\n")
    done = symbolize("--kernel", "--kallsyms", nothing, "0xffffffff81000000")
    assert done.returncode == 2 and "no list of kernel symbols" in done.stderr


def test_a_vmlinux_of_another_build_is_refused(small: Small, symbolize: Run, tmp_path: Path) -> None:
    """Although one of its symbols gives a slide; a stripped one gives none at all."""
    other = compile_as("int more(int x) { return x * 5; }\n" + KERNEL, tmp_path / "vmlinux", "-no-pie")
    address = hex(small.address_of("main"))
    done = symbolize(*small.words, "--vmlinux", other, address)
    assert done.returncode == 2 and done.stdout == "" and "another build" in done.stderr
    subprocess.run(["strip", other], check=True)
    done = symbolize(*small.words, "--vmlinux", other, address)
    assert done.returncode == 2 and "has no symbols to compare" in done.stderr and "--slide" in done.stderr


def test_a_module_of_another_build_is_refused(small: Small, symbolize: Run, tmp_path: Path) -> None:
    """By its symbols, and by its build-id where the kernel shows one: then names come from kallsyms alone."""
    module = small.kernel.modules[0]
    changed = MODULE.replace("int weigh(int x) {", 'int weigh(int x) { if (x > 5) printk("much");')
    compile_as("int first(int x) { return x; }\n" + changed, tmp_path / "my-driver.ko", "-c")
    address = module.sections[".text.drive"] + 1
    done = symbolize(*small.words, "--module-dir", tmp_path, hex(address))
    assert done.stdout == "drive+0x1 [my_driver] at ??:?\n"
    assert "another build" in done.stderr and str(tmp_path / "my-driver.ko") in done.stderr
    linked = compile_as("int f;", tmp_path / "my_driver.ko", "-shared")
    done = symbolize(*small.words, "--module-dir", tmp_path, hex(address))
    assert done.stdout == "drive+0x1 [my_driver] at ??:?\n" and f"{linked}: this is no kernel module" in done.stderr
    notes = tmp_path / "module" / "my_driver" / "notes"
    notes.mkdir(parents=True)
    (notes.parent / "sections").mkdir()
    (notes.parent / "sections" / ".text.drive").write_text(f"{module.sections['.text.drive']:#x}\n")
    (notes / ".note.gnu.build-id").write_bytes(b"\4\0\0\0\x08\0\0\0\3\0\0\0GNU\0" + bytes(range(8)))
    with_id = tmp_path / "with_id"
    with_id.mkdir()
    compile_as(MODULE, with_id / "plain.o", "-c", "-ffunction-sections")
    subprocess.run(["ld", "-r", "--build-id", "-o", with_id / "my_driver.ko", with_id / "plain.o"], check=True)
    done = symbolize(*small.words, "--sections", tmp_path / "module", "--module-dir", with_id, hex(address))
    assert done.stdout == "drive+0x1 [my_driver] at ??:?\n" and "0001020304050607" in done.stderr


def test_a_module_without_its_file_is_told_once(small: Small, symbolize: Run, tmp_path: Path) -> None:
    module = small.kernel.modules[0]
    addresses = [hex(module.sections[".text.drive"] + at) for at in (0, 1)]
    done = symbolize(*small.words, "--modules", small.kernel.module_list, "--module-dir", tmp_path, *addresses)
    assert done.stdout == "drive+0x0 [my_driver] at ??:?\ndrive+0x1 [my_driver] at ??:?\n"
    assert done.stderr.count("my_driver") == 1 and str(tmp_path) in done.stderr


def test_a_slide_that_is_known(small: Small, symbolize: Run, tmp_path: Path) -> None:
    """Without any list of symbols; and System.map moved by it. One that the symbols contradict is an error."""
    vmlinux = small.kernel.vmlinux
    main = small.address_of("main")
    lines = oracle(vmlinux, None, main + 2 - SLIDE)
    assert symbolize("--kernel", "--vmlinux", vmlinux, "--slide", hex(SLIDE), hex(main + 2)).stdout == lines
    system_map = tmp_path / "System.map"
    system_map.write_text(
        subprocess.run(["nm", "--defined-only", vmlinux], capture_output=True, text=True, check=True).stdout
    )
    told = ["--kernel", "--system-map", system_map]
    assert symbolize(*told, "--slide", str(SLIDE), hex(main + 2)).stdout == "main+0x2 at ??:?\n"
    assert symbolize(*told, hex(main + 2 - SLIDE)).stdout == "main+0x2 at ??:?\n"
    both = symbolize(*told, "--slide", str(SLIDE), "--vmlinux", vmlinux, hex(main + 2))
    assert both.stdout == lines
    wrong = symbolize(*small.words, "--slide", "0x1000", "--vmlinux", vmlinux, hex(main))
    assert wrong.returncode == 2 and hex(SLIDE) in wrong.stderr


def test_the_kernel_that_runs_here(symbolize: Run) -> None:
    """Names and offsets are those of the list itself; where it shows no addresses that is said."""
    rows = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
    shown = [(int(row[0], 16), row[2]) for row in rows if row[1] in "tTwW" and len(row) == 3]
    if not any(address for address, _ in shown):
        done = symbolize("--kernel", "0xffffffff81000000")
        assert done.returncode == 2 and "kptr_restrict" in done.stderr
        return
    names: dict[int, set[str]] = {}
    for address, name in shown:
        names.setdefault(address, set()).add(name)
    addresses = random.Random(4).sample(sorted(names)[:-1], 60)
    done = symbolize("--kernel", "--format", "text", text="\n".join(map(hex, addresses)))
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" (inlined")]
    plain = [re.split(r"[+ ]", line)[0].split(".")[0] for line in lines]
    wanted = [{each.split(".")[0] for each in names[address]} for address in addresses]
    agreeing = sum(name in each for name, each in zip(plain, wanted, strict=True))
    # Behind `_etext` nothing is code; symbols whose names are mangled are shown demangled.
    assert agreeing >= 55


LIST = """\
ffffffff81000000 T _stext
ffffffff81000000 t first_alias
ffffffff81000040 W weak_one
ffffffff81000080 t _RNvCsgfx9nzeSzSv_5queue4take
ffffffff81001000 T _etext
ffffffff81001000 t thunk_end
ffffffff81200000 D data
ffffffffc0000000 t in_module\t[crc7]
ffffffffc0000010 d module_data\t[crc7]
ffffffffc0005000 t bpf_prog_6deef7357e7b4530\t[bpf]
0000000000000000 A fixed_percpu_data
no symbol at all
"""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (0xFFFFFFFF81000000, ("_stext", None, 0)),
        (0xFFFFFFFF8100003F, ("_stext", None, 0x3F)),
        (0xFFFFFFFF81000041, ("weak_one", None, 1)),
        (0xFFFFFFFF81000FFF, ("_RNvCsgfx9nzeSzSv_5queue4take", None, 0xF7F)),
        (0xFFFFFFFF81001000, None),
        (0xFFFFFFFF81100000, None),
        (0xFFFFFFFF81200001, None),
        (0xFFFFFFFF80FFFFFF, None),
        (0xFFFFFFFFC000000F, ("in_module", "crc7", 0xF)),
        (0xFFFFFFFFC0000010, None),
        (0xFFFFFFFFC0005004, ("bpf_prog_6deef7357e7b4530", "bpf", 4)),
        (0xFFFFFFFFC0015000, None),
        (0xFFFFFFFFFFFFFFFF, None),
        (0, None),
    ],
    ids=lambda value: hex(value) if isinstance(value, int) else None,
)
def test_a_list_names_code_and_nothing_else(address: int, expected: tuple[str, str | None, int] | None) -> None:
    kallsyms = Kallsyms(LIST)
    found = kallsyms.find(address)
    assert (found and (found.name, found.module, found.offset)) == expected
    assert kallsyms.problem is None and kallsyms.damaged == 1


def test_rust_names_and_bpf_programs(symbolize: Run, tmp_path: Path) -> None:
    """Rust in the kernel reads as Rust; a BPF program has no file, and none is missed."""
    path = tmp_path / "kallsyms"
    path.write_text(LIST)
    done = symbolize("--kernel", "--kallsyms", path, "ffffffff81000084", "ffffffffc0005004")
    assert done.stdout == "queue::take+0x4 at ??:?\nbpf_prog_6deef7357e7b4530+0x4 [bpf] at ??:?\n"
    assert done.stderr.count("\n") == 1 and "1 lines of another form" in done.stderr
