"""The test programs: one small program a walking rule, declared in one table and built on demand.

Owns the table of programs and of compiler variants. `build` compiles a program of this folder into a
directory that the caller gives (a pytest temporary directory) and keeps it there: a second call with the same
arguments gives the same file. Standard library only, and independent of the code under test.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
EXAMPLES = SOURCES.parent.parent / "examples"

DEFAULT_FLAGS = ("-O2", "-g")
"""For programs that say nothing else; `-fomit-frame-pointer` is always added."""

_COMPILER_SECONDS = 60.0


class BuildError(Exception):
    """A compiler is missing or refused a program; the text has its command and its messages."""


@dataclass(frozen=True, slots=True)
class Program:
    """How one program is built."""

    sources: tuple[str, ...]
    """File names in this folder, or absolute paths."""
    flags: tuple[str, ...] = ()
    """Flags that make the program what it is; added after the variant's flags, so they win."""
    libraries: tuple[str, ...] = ()
    shared: bool = False
    """A shared library rather than a program."""
    companions: tuple[tuple[str, str], ...] = ()
    """(suffix, program): built with the same compiler to PATH + suffix, where the program looks for it at run
    time.
    """
    language: str = "c"


@dataclass(frozen=True, slots=True)
class Variant:
    """One compiler with one set of options."""

    compiler: str
    """gcc or clang; C++ programs use g++ and clang++ instead, see `compiler_for`."""
    flags: tuple[str, ...]

    @property
    def name(self) -> str:
        """For test ids, e.g. `clang-O2-flto-gdwarf-5`."""
        return "".join((self.compiler, *self.flags))


def _linkage(*flags: str) -> Program:
    return Program(("linkage.c",), flags=flags)


PROGRAMS: dict[str, Program] = {
    # Where frames lie
    "plt_call": Program(("plt_call.c",), flags=("-fno-builtin", "-Wl,-z,lazy", "-fcf-protection=none")),
    "plt_call_branch_tracking": Program(
        # .plt.sec beside .plt: the second half of a PLT entry that was split for indirect branch tracking
        ("plt_call.c",),
        flags=("-fno-builtin", "-Wl,-z,lazy", "-fcf-protection=full", "-Wl,-z,ibtplt"),
    ),
    "signal_handler": Program(("signal_handler.c",)),
    "alternate_signal_stack": Program(("alternate_signal_stack.c",)),
    "vdso_call": Program(("vdso_call.c",)),
    "deep_recursion": Program(("deep_recursion.c",), flags=("-fno-optimize-sibling-calls",)),
    "dlopen_library": Program(("dlopen_library.c",), libraries=("dl",), companions=((".so", "dlopen_library_plugin"),)),
    "dlopen_library_plugin": Program(("dlopen_library_plugin.c",), shared=True),
    "exec_other": Program(("exec_other.c",), flags=("-no-pie",), companions=((".next", "exec_other_next"),)),
    "exec_other_next": Program(("exec_other_next.c",), flags=("-no-pie",)),
    "fork_child": Program(("fork_child.c",)),
    "thread_pool": Program(("thread_pool.c",), flags=("-pthread",)),
    "generated_code": Program(("generated_code.c",)),
    # How a program is linked
    "static": _linkage("-static", "-no-pie"),
    "static_pie": _linkage("-static-pie", "-fPIE"),
    "no_pie": _linkage("-no-pie", "-fno-pie"),
    "pie": _linkage("-pie", "-fPIE"),
    # Shapes of frames
    "epilogue": Program(("epilogue.c",)),
    "dynamic_frame": Program(("dynamic_frame.c",), flags=("-mavx",)),
    "setjmp_longjmp": Program(("setjmp_longjmp.c",)),
    "exception_throw": Program(("exception_throw.cpp",), language="c++"),
    "tail_call": Program(("tail_call.c",)),
    "noreturn_call": Program(("noreturn_call.c",)),
    "cfi_directives": Program(("cfi_directives_main.c", "cfi_directives.S")),
    # Where CFI and names come from
    "debug_frame_only": Program(
        ("library_call.c",), flags=("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-g")
    ),
    "no_debug_info": Program(("library_call.c",), flags=("-g0",)),
    "stripped": Program(("library_call.c",), flags=("-g0", "-s")),
    "library_call": Program(("library_call.c",)),
    # Names, inlining, values
    "inline_nest": Program(("inline_nest.c",)),
    "static_same_name": Program(("static_same_name.c", "static_same_name_first.c", "static_same_name_second.c")),
    "arguments": Program(("arguments.c",)),
    "cpp_arguments": Program(("cpp_arguments.cpp",), flags=("-std=c++17",), language="c++"),
    "return_value": Program(("return_value.c",)),
    # The demo programs, so that what newcomers see is tested too
    "orders": Program(tuple(str(EXAMPLES / name) for name in ("orders.c", "order_book.c", "pricing.c", "discounts.c"))),
    "shapes": Program((str(EXAMPLES / "shapes.cpp"),), flags=("-std=c++17",), language="c++"),
    "workers": Program((str(EXAMPLES / "workers.c"),), flags=("-pthread",)),
}

_OPTIMIZATIONS = (("-O0",), ("-O2",), ("-O3",), ("-Os",), ("-O2", "-flto"))

VARIANTS: tuple[Variant, ...] = tuple(
    Variant(compiler, (*optimization, dwarf))
    for compiler in ("gcc", "clang")
    for optimization in _OPTIMIZATIONS
    for dwarf in ("-gdwarf-4", "-gdwarf-5")
)
"""Each compiler and optimization and DWARF version that the argument and inline programs are built with."""


def compiler_for(name: str, compiler: str = "gcc") -> str:
    """The command that compiles the program `name` with the `compiler` family gcc or clang."""
    if PROGRAMS[name].language == "c++":
        return {"gcc": "g++", "clang": "clang++"}.get(compiler, compiler)
    return compiler


def build(
    name: str,
    compiler: str = "gcc",
    flags: Sequence[str] = DEFAULT_FLAGS,
    *,
    directory: str | os.PathLike[str],
) -> Path:
    """The path of the program `name`, compiled into `directory` unless it is there already.

    `flags` are the variant's (optimization and debug information); the program's own flags follow and win.
    The file is called `name`, in a folder of its own for each different command. Raises KeyError for an
    unknown program, and BuildError.
    """
    command = _command(name, compiler, flags)
    key = hashlib.sha256("\0".join([*command, *_texts(name)]).encode()).hexdigest()[:12]
    folder = Path(directory) / f"{name}-{key}"
    target = folder / (f"{name}.so" if PROGRAMS[name].shared else name)
    if target.exists():
        return target
    # Built beside and renamed, so that processes that build the same program at once do not meet a half of
    # it.
    unfinished = Path(directory) / f"{name}-{key}.{os.getpid()}"
    unfinished.mkdir(parents=True, exist_ok=True)
    for suffix, companion in PROGRAMS[name].companions:
        built = build(companion, compiler, flags, directory=directory)
        shutil.copy2(built, unfinished / (target.name + suffix))
    _run([*command, "-o", str(unfinished / target.name)], unfinished)
    try:
        unfinished.rename(folder)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(unfinished)
    return target


def _command(name: str, compiler: str, flags: Sequence[str]) -> list[str]:
    program = PROGRAMS[name]
    driver = compiler_for(name, compiler)
    command = [driver, *flags, "-fomit-frame-pointer", *program.flags]
    if program.shared:
        command += ["-shared", "-fPIC"]
    if compiler.startswith("clang"):
        # GNU ld reads clang's link-time objects only with a plugin that is often missing.
        command += ["-fuse-ld=lld"] if "-flto" in flags else []
    command += [source if source.startswith("/") else str(SOURCES / source) for source in program.sources]
    return command + [f"-l{library}" for library in program.libraries]


def _texts(name: str) -> list[str]:
    """Everything that the built files depend on, for the key of their folder."""
    program = PROGRAMS[name]
    files = [SOURCES / source for source in program.sources]
    headers = sorted({header for file in files for header in file.parent.glob("*.h")})
    texts = [file.read_text() for file in [*files, *headers]]
    for _, companion in program.companions:
        texts += _texts(companion)
    return texts


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_COMPILER_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed; on Debian: apt install {_package_of(command[0])}") from error
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def _package_of(command: str) -> str:
    return "clang" if command.startswith("clang") else command
