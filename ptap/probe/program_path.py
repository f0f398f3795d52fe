"""Finding the file that process("PATH") means: as a shell finds a program, or among the target's libraries.

Libraries are found as the dynamic linker finds them (ld.so(8)): what is mapped already in a running target, then
DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH, the directories of /etc/ld.so.conf, and the defaults; along the whole closure
of DT_NEEDED, without running the program.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cfi_tables.elf_image import PT_DYNAMIC, ElfError, ElfImage
from unwind.symbolize.nearest_name import nearest_names

_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH, _DT_STRSZ = 1, 5, 15, 29, 10
_SHEBANG_SIZE = 256  # BINPRM_BUF_SIZE, linux/binfmts.h
_MAXIMUM_INTERPRETERS = 5  # fs/exec.c: exec_binprm
_MULTIARCH = "x86_64-linux-gnu"
_DEFAULT_DIRECTORIES = (
    f"/lib/{_MULTIARCH}",
    f"/usr/lib/{_MULTIARCH}",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)


class PathNotFound(Exception):
    """No program or library of that name; the text names the nearest ones."""


def find_program(name: str) -> str:
    """The absolute path of a program, found as a shell does. Raises PathNotFound."""
    if "/" in name:
        path = Path(name)
        if path.is_file():
            return os.path.realpath(name)
        if path.is_dir():
            raise PathNotFound(f"{name}: is a directory; name a program or library in it")
        if path.exists():
            raise PathNotFound(f"{name}: is no regular file; name a program or library")
        directory = path.parent
        if not directory.is_dir():
            raise PathNotFound(f"{name}: there is no directory {directory}")
        close = [str(directory / each) for each in nearest_names(path.name, _entries(str(directory)), 3)]
        raise PathNotFound(f"{name}: no such file" + _nearest(close))
    found = shutil.which(name)
    if found is None:
        close = nearest_names(name, _commands(), 3)
        here = f" (there is one in this directory: write ./{name})" if Path(name).is_file() else ""
        raise PathNotFound(f"{name or repr(name)}: not found in PATH" + (here or _nearest(close)))
    return os.path.realpath(found)


def executed_program(path: str) -> str:
    """The ELF program that runs when `path` is executed: a script's interpreter (execve(2)), else `path`.

    `#!/usr/bin/env NAME` stands for NAME in PATH, which env executes at once. Raises PathNotFound.
    """
    for _ in range(_MAXIMUM_INTERPRETERS):
        try:
            with open(path, "rb") as file:
                first = file.read(_SHEBANG_SIZE)
        except OSError:
            return path  # whoever opens it next says why it cannot be read
        if not first.startswith(b"#!"):
            return path
        words = os.fsdecode(first[2:].partition(b"\n")[0]).split(None, 1)
        if not words:
            return path
        interpreter = words[0]
        if os.path.basename(interpreter) == "env" and len(words) == 2:
            rest = [each for each in words[1].split() if not each.startswith("-") and "=" not in each]
            interpreter = rest[0] if rest else interpreter
        try:
            path = find_program(interpreter)
        except PathNotFound as error:
            raise PathNotFound(f"{path}: its interpreter: {error}") from None
    return path


def program_of(pid: int) -> str:
    """The program that a running process executes. Raises PathNotFound."""
    try:
        path = os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        if os.path.isdir(f"/proc/{pid}"):
            raise PathNotFound(f"process {pid} has no program: it is a kernel thread, or has ended") from None
        raise PathNotFound(_no_process(pid)) from None
    except PermissionError:
        owner = os.stat(f"/proc/{pid}").st_uid
        raise PathNotFound(
            f"process {pid} belongs to user {owner}, and you are user {os.geteuid()}; run as that user, or with sudo"
        ) from None
    if not os.path.isfile(path):
        raise PathNotFound(
            f"process {pid} runs {path}, which is not there (replaced since, or in a container): "
            'start it again, or name its file: process("PATH")'
        )
    return path


def has_program(pid: int) -> bool:
    """False for a kernel thread and a process that has ended: no probe of a program can hit there."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not ours to look at: attaching says more
    return True


def check_processes(pids: tuple[int, ...]) -> None:
    """Raises PathNotFound when one of `pids` is no process."""
    for pid in pids:
        if not os.path.isdir(f"/proc/{pid}"):
            raise PathNotFound(_no_process(pid))


def _no_process(pid: int) -> str:
    return f"there is no process {pid}: look for its pid with `ps -e` or `pgrep -a NAME`"


def find_modules(name: str, command: str | None, pids: tuple[int, ...]) -> list[str]:
    """The files that process("NAME") means for a target, usually one. Raises PathNotFound.

    `command` is the path of the program that will be started, `pids` are the running targets: they may have
    different files of one name mapped, and all of them are meant.
    """
    if "/" in name:
        return [find_program(name)]
    names: set[str] = set()
    found: list[str] = []
    for pid in pids:
        for path in mapped_files(pid):
            names.add(os.path.basename(path))
            if _same_library(name, path) and os.path.isfile(path):
                found.append(os.path.realpath(path))
    if found:
        return list(dict.fromkeys(found))
    if command is not None and os.path.basename(command) == name:
        return [command]
    program = None if pids else shutil.which(name)
    if program is not None:
        return [os.path.realpath(program)]
    if command is not None:
        for path in library_closure(executed_program(command)):
            names.add(os.path.basename(path))
            if _same_library(name, path):
                return [os.path.realpath(path)]
    # A library that is opened later by dlopen is in nobody's DT_NEEDED.
    for directory in _system_directories():
        if (Path(directory) / name).is_file():
            return [os.path.realpath(os.path.join(directory, name))]
    program = shutil.which(name)
    if program is not None:
        return [os.path.realpath(program)]
    if command is not None:
        names.add(os.path.basename(command))
    close = nearest_names(name, names, 3) or nearest_names(name, _commands(), 3)
    raise PathNotFound(f"{name}: neither a program in PATH nor a library of the target" + _nearest(close))


def _same_library(name: str, path: str) -> bool:
    """libc, libc.so, libc.so.6 and the file's own name all mean libc.so.6."""
    base = os.path.basename(path)
    stem = name if name.endswith(".so") else f"{name}.so"
    return name in (base, os.path.basename(os.path.realpath(path))) or base == stem or base.startswith(f"{stem}.")


def mapped_files(pid: int) -> Iterator[str]:
    """The files with executable mappings in a running process."""
    seen = set()
    try:
        with open(f"/proc/{pid}/maps") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(None, 5)
                if len(fields) == 6 and "x" in fields[1] and fields[5].startswith("/") and fields[5] not in seen:
                    seen.add(fields[5])
                    yield fields[5]
    except OSError:
        return


def library_closure(program: str) -> Iterator[str]:
    """Paths of the libraries that the dynamic linker would load for `program`, breadth first."""
    queue, seen = [program], {program}
    while queue:
        path = queue.pop(0)
        try:
            needed, rpath, runpath = _dynamic_names(ElfImage.open(path))
        except (ElfError, OSError):
            continue
        origin = os.path.dirname(os.path.realpath(path))
        environment = [each for each in os.environ.get("LD_LIBRARY_PATH", "").split(":") if each]
        directories = [
            directory.replace("$ORIGIN", origin).replace("${ORIGIN}", origin)
            for directory in [*([] if runpath else rpath), *environment, *runpath]
        ]
        for name in needed:
            found = _find_library(name, [*directories, *_system_directories()])
            if found is not None and found not in seen:
                seen.add(found)
                queue.append(found)
                yield found


def _find_library(name: str, directories: list[str]) -> str | None:
    if "/" in name:
        return name if Path(name).is_file() else None
    for directory in directories:
        candidate = os.path.join(directory, name)
        if Path(candidate).is_file():
            return candidate
    return None


def _dynamic_names(image: ElfImage) -> tuple[list[str], list[str], list[str]]:
    """DT_NEEDED names, DT_RPATH and DT_RUNPATH directories (gABI chapter 5)."""
    entries: list[tuple[int, int]] = []
    for segment in image.segments:
        if segment.type == PT_DYNAMIC:
            data = image.read(segment.address, segment.file_size)
            size = 2 * image.address_size
            order = "little" if image.little_endian else "big"
            for at in range(0, len(data) - size + 1, size):
                tag = int.from_bytes(data[at : at + size // 2], order)  # type: ignore[arg-type]
                value = int.from_bytes(data[at + size // 2 : at + size], order)  # type: ignore[arg-type]
                entries.append((tag, value))
    tags = dict(entries)
    if _DT_STRTAB not in tags:
        return [], [], []
    strings = image.read(tags[_DT_STRTAB], tags.get(_DT_STRSZ, 1 << 20))

    def text(offset: int) -> str:
        return strings[offset : strings.find(b"\0", offset)].decode(errors="replace")

    needed = [text(value) for tag, value in entries if tag == _DT_NEEDED]
    rpath = [path for tag, value in entries if tag == _DT_RPATH for path in text(value).split(":")]
    runpath = [path for tag, value in entries if tag == _DT_RUNPATH for path in text(value).split(":")]
    return needed, rpath, runpath


@cache
def _system_directories() -> tuple[str, ...]:
    """The directories of /etc/ld.so.conf with its includes, then the dynamic linker's defaults."""
    directories: list[str] = []

    def read(pattern: str, depth: int) -> None:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            try:
                text = path.read_text(errors="replace")
            except OSError:
                continue
            for line in text.splitlines():
                words = line.partition("#")[0].split()
                if words[:1] == ["include"] and depth < 4:
                    for word in words[1:]:
                        read(word if word.startswith("/") else str(path.parent / word), depth + 1)
                else:
                    directories.extend(word for word in words if word.startswith("/"))

    read("/etc/ld.so.conf", 0)
    return tuple(dict.fromkeys([*directories, *_DEFAULT_DIRECTORIES]))


def _commands() -> set[str]:
    """The names in PATH."""
    return {name for directory in os.environ.get("PATH", "").split(":") for name in _entries(directory)}


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _nearest(names: list[str]) -> str:
    return f"; the nearest: {', '.join(names)}" if names else ""
