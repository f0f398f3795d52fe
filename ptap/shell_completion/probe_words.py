"""Completion of probe points: their words, programs and libraries, and the functions in them.

A candidate is the whole probe point as far as it is known. Only what stands in a probe point can be completed that the
shell takes for one word: behind a single quote.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ptap.shell_completion.candidate import Candidate, few

_BEGINS = (
    'process("',
    'process.function("',
    'process.statement("',
    'kernel.function("',
    'kernel.statement("',
    'kernel.trace("',
    'module("',
    "timer.profile(",
)
_VARIANTS = ("", ".call", ".inline", ".return")
_FREQUENCIES = (99, 499, 999)
_STEPS = 4
"""So often a single candidate that is not whole is completed further."""

_FILE = re.compile(r'process\("(?P<path>[^"]*)$')
_MODULE = re.compile(r'module\("(?P<module>[^"]*)$')
_OWNER = r'(?P<owner>process|kernel|process\("(?P<path>[^"]+)"\)|module\("(?P<module>[^"]+)"\))'
_KIND = re.compile(_OWNER + r"\.?[a-z]*$")
_NAME = re.compile(_OWNER + r'\.(?P<kind>function|statement)\("(?P<name>[^"@]*)$')
_VARIANT = re.compile(_OWNER + r'\.function\("[^"]+"\)(?=\.?[a-z]*$)')
_TRACEPOINT = re.compile(r'kernel\.trace\("(?P<name>[^"]*)$')


@dataclass(frozen=True, slots=True)
class ProbedProgram:
    """What the command line says of whom probes are set in."""

    command: str | None = None
    """The program behind `--`."""
    pids: tuple[int, ...] = ()
    vmlinux: str | None = None


def complete_probe(text: str, program: ProbedProgram) -> list[Candidate]:
    """What the incomplete probe point `text` may become.

    One candidate alone is whole, as far as possible: shells close the quote behind it.
    """
    found = _next(text, program)
    for _ in range(_STEPS):
        if len(found) != 1 or found[0].whole or found[0].value == text:
            break
        text = found[0].value
        found = _next(text, program) or found
    return found


def _next(text: str, program: ProbedProgram) -> list[Candidate]:
    """One step further."""
    if match := _FILE.match(text):
        return [_path(each) for each in few(_files(match["path"], program))]
    if match := _MODULE.match(text):
        names = few(each for each in _loaded() if each.startswith(match["module"]))
        return [Candidate(f'module("{each}").function("', False) for each in names]
    if match := _TRACEPOINT.match(text):
        from ptap.shell_completion.kernel_names import tracepoints

        names = few(each for each in tracepoints() if each.startswith(match["name"]))
        return [Candidate(f'kernel.trace("{each}")') for each in names]
    if match := _NAME.match(text):
        return _functions(match, program)
    if match := _VARIANT.match(text):
        found = [Candidate(match[0] + each) for each in _VARIANTS]
    elif text.startswith("timer.profile("):
        found = [Candidate(f"timer.profile({each})") for each in _FREQUENCIES]
    else:
        begins = list(_BEGINS)
        if (match := _KIND.match(text)) and match["owner"] not in ("process", "kernel"):
            begins = [f'{match["owner"]}.{kind}("' for kind in ("function", "statement")]
        found = [Candidate(each, False) for each in begins]
    return [each for each in found if each.value.startswith(text)]


def _path(path: str) -> Candidate:
    return Candidate(f'process("{path}' if path.endswith("/") else f'process("{path}").function("', False)


def _loaded() -> list[str]:
    from ptap.shell_completion.kernel_names import loaded_modules

    return loaded_modules()


def _functions(match: re.Match[str], program: ProbedProgram) -> list[Candidate]:
    """The probe points of the functions whose names begin as `match` has it."""
    begin, name = match.string[: match.start("name")], match["name"]
    end = '")' if match["kind"] == "function" else "@"
    found = [Candidate(begin + each + end, end != "@") for each in few(_names(match, name, program))]
    if end == "@" and len(found) == 1:  # what follows is for the user to write
        found.append(Candidate(f"{found[0].value}FILE:LINE", False))
    return found


def _names(match: re.Match[str], name: str, program: ProbedProgram) -> set[str]:
    from ptap.shell_completion.function_names import function_names

    if not match["owner"].startswith("process"):
        if program.vmlinux is not None and match["module"] is None:
            return function_names(program.vmlinux, name)
        from ptap.shell_completion.kernel_names import kernel_functions

        return kernel_functions(name, match["module"])
    return {each for path in _probed_files(match["path"], program) for each in function_names(path, name)}


def _probed_files(path: str | None, program: ProbedProgram) -> list[str]:
    """The files that `process("PATH")`, or `process` alone, means."""
    from ptap.probe.program_path import PathNotFound, executed_program, find_modules, find_program, program_of

    try:
        command = find_program(program.command) if program.command is not None else None
        if path is not None:
            return find_modules(path, command, program.pids)
        return [executed_program(command)] if command is not None else [program_of(pid) for pid in program.pids]
    except PathNotFound:
        return []


def _files(prefix: str, program: ProbedProgram) -> set[str]:
    """Programs and libraries by path where there is a slash, else by name: those of the target, and of PATH."""
    if "/" in prefix:
        return _entries(prefix)
    from ptap.probe.program_path import mapped_files

    names = {os.path.basename(each) for pid in program.pids for each in mapped_files(pid)} | _libraries(program)
    if program.command is not None:
        names.add(program.command)
    elif not program.pids and prefix:
        for folder in os.environ.get("PATH", "").split(":"):
            names.update(_listed(folder or ".", prefix))
    return {name for name in names | {"./"} if name.startswith(prefix)}


def _libraries(program: ProbedProgram) -> set[str]:
    from ptap.probe.program_path import PathNotFound, executed_program, find_program, library_closure

    if program.command is None:
        return set()
    try:
        path = executed_program(find_program(program.command))
    except PathNotFound:
        return set()
    return {os.path.basename(each) for each in library_closure(path)}


def _entries(prefix: str) -> set[str]:
    """Folders, and files that look like programs or libraries, at the paths that begin with `prefix`."""
    folder, _, name = prefix.rpartition("/")
    found = set()
    for entry in _listed(f"{folder}/", name):
        path = f"{folder}/{entry}"
        if os.path.isdir(path):
            found.add(f"{path}/")
        elif os.path.isfile(path) and (os.access(path, os.X_OK) or ".so" in entry):
            found.add(path)
    return found


def _listed(folder: str, prefix: str) -> list[str]:
    try:
        entries = os.listdir(folder)
    except OSError:
        return []
    return [each for each in entries if each.startswith(prefix) and (prefix or not each.startswith("."))]
