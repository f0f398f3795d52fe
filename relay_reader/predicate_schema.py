"""The program that decides at a probe whether a stack is wanted, declared once: what `--when` is compiled to.

`generate.py` writes the C header and the Python constants from here. Little endian, naturally aligned.

A program is a PREDICATE_PROGRAM, then its files, instructions, sets and ranges, one array behind the other. Its
instructions are postfix: each takes its operands off a stack of verdicts and puts its own onto it; one is left at the
end. A verdict is UNKNOWN where the frames do not tell: the logic is Kleene's, in which FALSE and UNKNOWN is FALSE.

Addresses are link-time ones, those of return addresses minus one. A set is of one file: ranges in order, with
gaps between them.
"""

from __future__ import annotations

from construct import Bytes, Int16ul, Int32ul, Int64ul, Struct

PREDICATE_PROGRAM = Struct(
    "known_start" / Int64ul,  # of the kernel's code that sets speak of: what lies outside may be any function
    "known_end" / Int64ul,
    "file_count" / Int32ul,
    "instruction_count" / Int32ul,
    "set_count" / Int32ul,
    "range_count" / Int32ul,
    "inside" / Int32ul,  # 1: probed places may lie in inlined calls, whose callers are in the probed frame itself
    "reserved" / Int32ul,
)

PREDICATE_FILE = Struct(
    "build_id" / Bytes(20),  # both as in the header of its unwind table
    "build_id_size" / Int32ul,
)

PREDICATE_INSTRUCTION = Struct(
    "operation" / Int16ul,
    "comparison" / Int16ul,  # of COMPARE
    "operand" / Int32ul,  # a set, a file, sides, or a measure
    "value" / Int64ul,
    "text" / Bytes(16),  # of COMM, padded with zeros
)

PREDICATE_SET = Struct(
    "first" / Int32ul,  # of its ranges
    "count" / Int32ul,
    "file" / Int32ul,  # 0: the kernel; n: the n-th file
    "reserved" / Int32ul,
)

PREDICATE_RANGE = Struct(
    "start" / Int64ul,
    "end" / Int64ul,  # first address behind it
)

STRUCTURES = {
    "predicate_program": PREDICATE_PROGRAM,
    "predicate_file": PREDICATE_FILE,
    "predicate_instruction": PREDICATE_INSTRUCTION,
    "predicate_set": PREDICATE_SET,
    "predicate_range": PREDICATE_RANGE,
}

VERDICT = (
    ("FALSE", 0, "the stack is not wanted"),
    ("TRUE", 1, "it is"),
    ("UNKNOWN", 2, "the frames that are known do not tell"),
)
OPERATION = (
    ("CALLER", 1, "a frame above the probed one lies in the set; `value` 0, or how many frames above are looked at"),
    ("DIRECT_CALLER", 2, "the frame above the probed one lies in the set"),
    ("IN_FILE", 3, "any frame lies in the file"),
    ("ELSEWHERE", 4, "never true, unknown where a frame of the sides lies in no file of the program"),
    ("COMPARE", 5, "the measure compares so with `value`"),
    ("COMM", 6, "the thread is called `text`"),
    ("AND", 7, "both"),
    ("OR", 8, "either"),
    ("NOT", 9, "the opposite"),
    ("UNDECIDABLE", 10, "never known at a probe"),
)
MEASURE = (
    ("DEPTH", 1, "frames of the whole stack"),
    ("KERNEL_DEPTH", 2, "frames in the kernel"),
    ("USER_DEPTH", 3, "frames in user space"),
    ("PID", 4, "the process"),
    ("TID", 5, "the thread"),
)
COMPARISON = (
    ("EQUAL", 1, "=="),
    ("NOT_EQUAL", 2, "!="),
    ("LESS", 3, "<"),
    ("LESS_OR_EQUAL", 4, "<="),
    ("GREATER", 5, ">"),
    ("GREATER_OR_EQUAL", 6, ">="),
)
SIDE = (
    ("KERNEL", 1, "frames in the kernel"),
    ("USER", 2, "frames in user space"),
    ("BOTH", 3, "all frames"),
)
ENUMS = {
    "verdict": VERDICT,
    "operation": OPERATION,
    "measure": MEASURE,
    "comparison": COMPARISON,
    "side": SIDE,
}

CONSTANTS = {
    "PREDICATE_INSTRUCTIONS": 64,
    "PREDICATE_DEPTH": 32,
    "PREDICATE_FILES": 256,
    "PREDICATE_RANGES": 1 << 20,
    "FILE_KERNEL": 0,
    "FILE_OTHER": 0xFFFFFFFF,
    "FILE_UNKNOWN": 0xFFFFFFFE,
}
