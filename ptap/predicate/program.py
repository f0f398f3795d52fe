"""A predicate → the program that the kernel module runs at a probe (relay_reader/predicate_schema.py).

The probe knows addresses, and of which file they are: functions become the ranges of their code. What the probe cannot
know makes the verdict unknown there, for whoever reads the records to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ptap.predicate.expression import And, Caller, CommIs, InModule, Measured, Not, Or, Predicate, Term, UserCaller
from ptap.predicate.kernel_functions import FunctionCode, Range
from ptap.predicate.trace_verdict import module_matches
from relay_reader import predicate_schema as schema
from relay_reader.predicate_layout import (
    FILE_KERNEL,
    PREDICATE_DEPTH,
    PREDICATE_FILES,
    PREDICATE_INSTRUCTIONS,
    PREDICATE_RANGES,
    Comparison,
    Measure,
    Operation,
    Side,
)


class ProgramError(ValueError):
    """A predicate is too much for a probe; the text says what."""


class Functions(Protocol):
    """Where the kernel's functions are (`KernelFunctions`)."""

    @property
    def known(self) -> Range:
        """The code that it speaks of."""

    def find(self, pattern: str, file: str | None) -> FunctionCode | None:
        """Those of a name; None where that cannot be told."""

    def nearest(self, pattern: str) -> list[str]:
        """Names that may have been meant."""


class UserFile(Protocol):
    """A program or library whose frames the probe can tell (`UserFunctions`)."""

    @property
    def path(self) -> str:
        """Where it is mapped from."""

    @property
    def build_id(self) -> bytes:
        """By which the probe knows it."""

    def find(self, pattern: str, file: str | None) -> FunctionCode | None:
        """Its functions of a name; None where that cannot be told."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction."""

    operation: Operation
    operand: int = 0
    value: int = 0
    comparison: int = 0
    text: bytes = b""


@dataclass(slots=True)
class Program:
    """What the module is told."""

    known: Range = (0, 0)
    inside: bool = False
    files: list[bytes] = field(default_factory=list)
    """Build-ids."""
    instructions: list[Instruction] = field(default_factory=list)
    sets: list[tuple[int, Sequence[Range]]] = field(default_factory=list)
    """(number of the file, ranges)."""

    def encoded(self) -> bytes:
        """As the schema has it."""
        ranges = [each for _, rows in self.sets for each in rows]
        parts = [
            schema.PREDICATE_PROGRAM.build(
                {
                    "known_start": self.known[0],
                    "known_end": self.known[1],
                    "file_count": len(self.files),
                    "instruction_count": len(self.instructions),
                    "set_count": len(self.sets),
                    "range_count": len(ranges),
                    "inside": int(self.inside),
                    "reserved": 0,
                }
            )
        ]
        for build_id in self.files:
            padded = build_id[:20].ljust(20, b"\0")
            parts.append(schema.PREDICATE_FILE.build({"build_id": padded, "build_id_size": len(build_id[:20])}))
        for each in self.instructions:
            fields = {name: int(getattr(each, name)) for name in ("operation", "comparison", "operand", "value")}
            parts.append(schema.PREDICATE_INSTRUCTION.build({**fields, "text": each.text.ljust(16, b"\0")}))
        first = 0
        for file, rows in self.sets:
            parts.append(schema.PREDICATE_SET.build({"first": first, "count": len(rows), "file": file, "reserved": 0}))
            first += len(rows)
        parts += [schema.PREDICATE_RANGE.build({"start": start, "end": end}) for start, end in ranges]
        return b"".join(parts)


@dataclass(slots=True)
class CompiledPredicate:
    """A program, and what is to be said of it."""

    program: Program
    notes: list[str]
    """Sentences for people: what was not found, or is left to be decided afterwards."""


def compile_predicate(
    predicate: Predicate, functions: Functions, inside: bool = False, files: Sequence[UserFile] = ()
) -> CompiledPredicate:
    """The program for probes in the kernel; `inside` when not all of them are where functions begin or return.

    `files` are those whose tables the probe has: no frame of another one is known there. Raises ProgramError and what
    `functions` and `files` raise.
    """
    if len(files) > PREDICATE_FILES:
        raise ProgramError(f"--when: stacks through more than {PREDICATE_FILES} programs and libraries")
    compiler = _Compiler(functions, files)
    compiler.program.inside = inside
    compiler.put(predicate, 0)
    program = compiler.program
    if len(program.instructions) > PREDICATE_INSTRUCTIONS:
        raise ProgramError(f"--when has more than {PREDICATE_INSTRUCTIONS} terms and operations")
    if sum(len(ranges) for _, ranges in program.sets) > PREDICATE_RANGES:
        raise ProgramError("--when names functions by wildcards that match too much code: name them more closely")
    return CompiledPredicate(program, compiler.notes)


class _Compiler:
    """Puts one predicate into one program."""

    def __init__(self, functions: Functions, files: Sequence[UserFile]) -> None:
        self._functions = functions
        self._files = files
        self.program = Program(functions.known, files=[file.build_id for file in files])
        self.notes: list[str] = []
        self._sets: dict[tuple[str, str | None, bool], int | None] = {}

    def put(self, predicate: Predicate, below: int) -> None:
        """Append the instructions that leave the verdict of `predicate` on a stack with `below` others."""
        self._check_depth(below)
        if isinstance(predicate, Not):
            self.put(predicate.part, below)
            self._append(Instruction(Operation.NOT))
        elif isinstance(predicate, And | Or):
            self.put(predicate.left, below)
            self.put(predicate.right, below + 1)
            self._append(Instruction(Operation.AND if isinstance(predicate, And) else Operation.OR))
        elif isinstance(predicate, UserCaller) and predicate.module is None:
            # To look for the function in every file would take long: whoever reads the records has the names.
            self._append(Instruction(Operation.UNDECIDABLE))
            self._check_depth(below + 1)
            self._append(Instruction(Operation.COMPARE, Measure.USER_DEPTH, 0, Comparison.GREATER))
            self._append(Instruction(Operation.AND))
        else:
            for number, instruction in enumerate(self._term(predicate)):
                self._append(instruction)
                if number > 0:
                    self._check_depth(below + 1)
                    self._append(Instruction(Operation.OR))

    @staticmethod
    def _check_depth(below: int) -> None:
        if below >= PREDICATE_DEPTH:
            raise ProgramError(f"--when has more than {PREDICATE_DEPTH} parentheses in one another")

    def _append(self, instruction: Instruction) -> None:
        self.program.instructions.append(instruction)

    def _term(self, term: Term) -> list[Instruction]:
        """Of which any has to hold."""
        if isinstance(term, Caller):
            number = self._set(term)
            if number is None:
                return [Instruction(Operation.UNDECIDABLE)]
            operation = Operation.DIRECT_CALLER if term.direct else Operation.CALLER
            return [Instruction(operation, number, value=term.limit or 0)]
        if isinstance(term, Measured):
            return [Instruction(Operation.COMPARE, term.measure, term.value, term.comparison)]
        if isinstance(term, CommIs):
            return [Instruction(Operation.COMM, text=term.name.encode())]
        return self._in_module(term) if isinstance(term, InModule) else self._user_caller(term)

    def _in_module(self, term: InModule) -> list[Instruction]:
        if module_matches("[kernel]", term.module):
            return [Instruction(Operation.COMPARE, Measure.KERNEL_DEPTH, 0, Comparison.GREATER)]
        found = [Instruction(Operation.IN_FILE, number) for number in self._files_of(term.module)]
        found = found or [Instruction(Operation.ELSEWHERE, Side.USER)]
        # Frames that are not of vmlinux are of a module, of which the probe does not know the name.
        if "/" not in term.module and ".so" not in term.module:
            found.append(Instruction(Operation.ELSEWHERE, Side.KERNEL))
        return found

    def _user_caller(self, term: UserCaller) -> list[Instruction]:
        assert term.module is not None
        found = []
        for number in self._files_of(term.module):
            code = self._files[number - 1].find(term.function, term.file)
            if code is None:
                return [Instruction(Operation.UNDECIDABLE)]
            found.append(Instruction(Operation.CALLER, self._add_set(number, code.anywhere), value=term.limit or 0))
        if not found:
            self.notes.append(
                f"--when: the probe knows no program or library {term.module} (--program): what goes through code that "
                "it does not know is recorded, and decided afterwards"
            )
            return [Instruction(Operation.ELSEWHERE, Side.USER)]
        if not any(self.program.sets[each.operand][1] for each in found):
            self.notes.append(f"--when: {term.module} has no function {_named(term.function, term.file)}")
        return found

    def _files_of(self, name: str) -> list[int]:
        """The numbers of the files that `name` means."""
        return [number for number, file in enumerate(self._files, 1) if module_matches(file.path, name)]

    def _add_set(self, file: int, ranges: Sequence[Range]) -> int:
        self.program.sets.append((file, ranges))
        return len(self.program.sets) - 1

    def _set(self, term: Caller) -> int | None:
        """The number of the set of a caller's code; None where it cannot be told."""
        key = (term.function, term.file, term.direct)
        if key not in self._sets:
            self._sets[key] = self._new_set(term)
        return self._sets[key]

    def _new_set(self, term: Caller) -> int | None:
        name = _named(term.function, term.file)
        found = self._functions.find(term.function, term.file)
        if found is None:
            self.notes.append(f"--when: {name} is looked for when the records are read, as source files are not known")
            return None
        ranges = found.innermost if term.direct else found.anywhere
        if not ranges:
            nearest = self._functions.nearest(term.function)
            self.notes.append(
                f"--when: vmlinux has no function {name}: only in modules can there be one"
                + (f"; the nearest names: {', '.join(nearest)}" if nearest else "")
            )
        return self._add_set(FILE_KERNEL, ranges)


def _named(function: str, file: str | None) -> str:
    return function + (f"@{file}" if file is not None else "")
