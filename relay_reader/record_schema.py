"""What the kernel module and its user exchange, declared once: records in one direction, messages in the other.

`generate.py` writes the C header and the Python constants from here. Everything is little endian and naturally
aligned, and begins at a multiple of 8.

A record is a HIT's fixed part, then `frame_count` words (the frames' pcs, innermost first), then `slice_count` slices
(a SLICE and its bytes, which are whole words), then `oracle_count` words (what the kernel's own unwinder says). The
other kinds of record are the fixed part alone, most of it zero. MODULE_SECTION has the module's number as `probe`, the
section's as `tid`, and as `stop_detail` the run-time address, 0 when the section is gone.

A message is a MESSAGE_HEADER and what its kind has behind it. Addresses in messages are link-time ones, as in vmlinux.
"""

from __future__ import annotations

from construct import Array, Bytes, Int16ul, Int32ul, Int64ul, Struct

HIT = Struct(
    "magic" / Int32ul,
    "length" / Int32ul,  # of the whole record, a multiple of 8
    "version" / Int16ul,
    "kind" / Int16ul,
    "cpu" / Int32ul,
    "sequence" / Int64ul,  # of this CPU's hits, the dropped ones too
    "dropped" / Int64ul,  # hits of this CPU so far that have no record
    "time_ns" / Int64ul,  # CLOCK_MONOTONIC
    "pid" / Int32ul,
    "tid" / Int32ul,
    "probe" / Int32ul,  # its number, as the user gave it
    "flags" / Int32ul,
    "stop" / Int32ul,  # why the walk at the probe ended
    "known" / Int32ul,  # bit r: register r holds a value
    "stop_detail" / Int64ul,
    "slide" / Int64ul,  # run-time address less link-time address
    "frame_count" / Int32ul,
    "slice_count" / Int32ul,
    "bytes_asked" / Int32ul,  # of all slices
    "bytes_copied" / Int32ul,
    "oracle_count" / Int32ul,
    "reserved" / Int32ul,
    "comm" / Bytes(16),
    "registers" / Array(17, Int64ul),  # by DWARF number; 16 is the pc
)

SLICE = Struct(
    "address" / Int64ul,
    "asked" / Int32ul,  # bytes
    "copied" / Int32ul,  # bytes, which follow
)

MESSAGE_HEADER = Struct(
    "magic" / Int32ul,
    "version" / Int16ul,
    "kind" / Int16ul,
)

ANCHOR_MESSAGE = Struct(
    "address" / Int64ul,
    "symbol" / Bytes(64),  # one that the module knows the run-time address of
)

TABLE_MESSAGE = Struct(
    "start" / Int64ul,  # of the code that the table is for
    "end" / Int64ul,
)

TRAMPOLINE_MESSAGE = Struct(
    "address" / Int64ul,
)

PROBE_MESSAGE = Struct(
    "address" / Int64ul,  # where it has to come to lie, 0: not known; of a module as its file's sections are laid out
    "offset" / Int64ul,  # bytes from the symbol; of a timer its samples a second
    "number" / Int32ul,
    "kind" / Int32ul,
    "symbol" / Bytes(256),  # module:symbol of a module; the name of a tracepoint
    "flags" / Int32ul,
    "reserved" / Int32ul,
)

MODULE_MESSAGE = Struct(
    "number" / Int32ul,  # from 0 on, in the order of the messages
    "section_count" / Int32ul,  # MODULE_SECTIONs follow, then the module's compact table, if there is one
    "name" / Bytes(64),
)

MODULE_SECTION = Struct(
    "start" / Int64ul,  # of its code, as the file's sections are laid out
    "end" / Int64ul,
    "first_address" / Int64ul,  # of two symbols in it, the first ones of their names; they may be the same
    "last_address" / Int64ul,
    "first" / Bytes(128),
    "last" / Bytes(128),
)

PLACEMENT_MESSAGE = Struct(
    "module" / Int32ul,  # its number
    "section" / Int32ul,
    "address" / Int64ul,  # at run time
)

START_MESSAGE = Struct(
    "ring_bytes" / Int32ul,  # a CPU, a power of two
    "maximum_frames" / Int32ul,
    "slices" / Int32ul,
    "flags" / Int32ul,
)

STRUCTURES = {
    "hit": HIT,
    "slice": SLICE,
    "message_header": MESSAGE_HEADER,
    "anchor_message": ANCHOR_MESSAGE,
    "table_message": TABLE_MESSAGE,
    "trampoline_message": TRAMPOLINE_MESSAGE,
    "probe_message": PROBE_MESSAGE,
    "start_message": START_MESSAGE,
    "module_message": MODULE_MESSAGE,
    "module_section": MODULE_SECTION,
    "placement_message": PLACEMENT_MESSAGE,
}

# Each enum: name, (member, value, meaning).
RECORD_KIND = (
    ("HIT", 1, "a probe was hit"),
    ("FINISHED", 2, "a CPU's last: its hits, those without record, and (stop_detail) those that the kernel left out"),
    ("MODULE_SECTION", 10, "where code of a module lies from now on"),
)
HIT_FLAG = (
    ("REACHED_USER", 1, "the walk came to the code that entered the kernel: the kernel's stack is whole"),
    ("WORDS_LEFT_OUT", 2, "the walk read more memory than a record has room for"),
    ("RETURN_PROBE", 4, "the function has returned: the pc is its caller's"),
    ("CALLED", 512, "the pc is where the code goes on that has called the probe"),
)
MESSAGE_KIND = (
    ("ANCHOR", 1, "where a symbol was linked to: they tell the slide, and have to agree"),
    ("TABLE", 2, "a compact unwind table and the code that it is for"),
    ("TRAMPOLINE", 3, "what return probes put in place of return addresses"),
    ("PROBE", 4, "a probe"),
    ("START", 5, "register the probes; nothing more can be added"),
    ("STOP", 6, "unregister the probes; what was recorded can still be read"),
    ("MODULE", 10, "a module of the kernel whose code is probed or walked through, loaded or not"),
    ("PLACEMENT", 11, "where a section of a loaded module lies"),
)
PROBE_KIND = (
    ("ENTRY", 1, "an instruction of the kernel"),
    ("RETURN", 2, "the return of a function"),
    ("TIMER", 20, "samples of whatever runs on each processor"),
    ("TRACEPOINT", 21, "a tracepoint of the kernel"),
)
PROBE_FLAG = (("OPTIONAL", 1, "where the kernel does not probe that, the other probes go on"),)
SLICES = (
    ("NONE", 0, "registers and addresses only"),
    ("WORDS", 1, "the words that the walk read"),
)
START_FLAG = (("ORACLE", 1, "record what the kernel's own unwinder says, too"),)
ENUMS = {
    "record_kind": RECORD_KIND,
    "hit_flag": HIT_FLAG,
    "message_kind": MESSAGE_KIND,
    "probe_kind": PROBE_KIND,
    "probe_flag": PROBE_FLAG,
    "slices": SLICES,
    "start_flag": START_FLAG,
}

CONSTANTS = {
    "RECORD_MAGIC": 0x52525450,  # "PTRR"
    "MESSAGE_MAGIC": 0x4D525450,  # "PTRM"
    "RECORD_VERSION": 1,
    "MAXIMUM_FRAMES": 128,
    "MAXIMUM_PROBES": 4096,
    "MAXIMUM_MODULES": 256,
    "MAXIMUM_MODULE_SECTIONS": 4096,
    "MAXIMUM_FREQUENCY": 100_000,
    "MINIMUM_RING_BYTES": 1 << 16,
    "MAXIMUM_RING_BYTES": 1 << 28,
}
