"""What the kernel module and its user exchange, declared once: records in one direction, messages in the other.

`generate.py` writes the C header and the Python constants from here. Everything is little endian and naturally
aligned, and begins at a multiple of 8.

Every record begins as RECORD_HEAD does. A FINISHED and a MODULE_SECTION are their structure alone; a SPACE, which the
collector writes, has JSON behind its structure, padded by spaces.

A hit is a HIT, then its RUNs, those of the kernel's stack first, then its packed words, with zeros up to a multiple of
8, and with USER_FLAT a FLAT and its bytes, which are whole words. Nearly all of it are words of 64 bits, in this order:

* `stop_detail` (of the kernel's walk), `slide` (run-time address less link-time address);
* the registers that `known` names, by DWARF number, 16 is the pc;
* `frame_count` pcs, innermost first;
* of each of the kernel's runs the address, where its `gap` says so, and its words;
* `oracle_count` words, what the kernel's own unwinder says;
* with USER_STACK: `stop_detail` (of the user's walk), `generation` of the mappings that it went by (0: it had none),
  `start_stack`, where the program's stack began, which tells a process's programs from each other; the registers that
  `user_known` names, none where `frame_count` is 0: the hit's own are they; `user_frame_count` pcs; the user's runs.
  With USER_NARROW the registers are under the names that those have whose lower halves they are (eax is rax).

Words are packed because few upper halves make up most of them: nothing, all ones (the kernel's code), those of a stack,
of a heap, of a library. A word becomes an *entry*, its lower half and a code of 4 bits that says what is above it:
0 nothing, 1 all ones (HIGH_ONES), HIGH_TOLD + n the n-th half that is told, HIGH_OTHER the next one of those that are
told behind the ones that have a code. Eight entries make a group: their codes, the first one lowest, then the lower
halves; the last group ends with its last entry, its unused codes are 0. Behind the groups `high_count` halves are told,
as they first came: the first ones have a code, the others come anew with each word.
A packed word takes 4.5 bytes, a half that is told 4.

A message is a MESSAGE_HEADER and what its kind has behind it. Addresses in messages are link-time ones, as in vmlinux.
"""

from __future__ import annotations

from construct import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct

_HEAD = (
    "magic" / Int32ul,
    "length" / Int32ul,  # of the whole record, a multiple of 8
    "version" / Int16ul,
    "kind" / Int16ul,
    "cpu" / Int32ul,
    "time_ns" / Int64ul,  # CLOCK_MONOTONIC
)
"""What every record begins with."""

RECORD_HEAD = Struct(*_HEAD)

HIT = Struct(
    *_HEAD,
    "sequence" / Int64ul,  # of this CPU's hits, the dropped ones too
    "dropped" / Int64ul,  # hits of this CPU so far that have no record
    "pid" / Int32ul,
    "tid" / Int32ul,
    "comm" / Bytes(16),
    "probe" / Int32ul,  # its number, as the user gave it
    "known" / Int32ul,  # bit r: register r holds a value
    "user_known" / Int32ul,  # of the registers with which user space was left
    "word_count" / Int16ul,  # packed words
    "high_count" / Int16ul,  # upper halves that are told
    "frame_count" / Int16ul,
    "user_frame_count" / Int16ul,
    "run_count" / Int16ul,
    "user_run_count" / Int16ul,
    "oracle_count" / Int16ul,
    "unread" / Int16ul,  # words of the kernel's runs that could not be read again; 0xffff: or more
    "flags" / Int16ul,
    "stop" / Int8ul,  # why the walk at the probe ended
    "user_stop" / Int8ul,  # why the walk of the user's stack ended
)

RUN_TOLD = Struct(
    "gap" / Int16ul,  # words from the end of the run before to this one, of the first of a stack from the stack pointer
    # (rounded down to a word; 0 where it is not known); GAP_FAR: the run's address comes before its words
    "count" / Int16ul,  # its words
)

FLAT = Struct(
    "address" / Int64ul,
    "asked" / Int32ul,  # bytes
    "copied" / Int32ul,  # bytes, which follow
)

FINISHED = Struct(
    *_HEAD,
    "hits" / Int64ul,  # of this CPU, the dropped ones too
    "dropped" / Int64ul,  # of these
    "missed" / Int64ul,  # left out by the kernel itself, on all CPUs; one of them tells it
    "unwanted" / Int64ul,  # whose stacks the predicate refused
    "others" / Int64ul,  # of processes that are no target
)

SECTION_PLACED = Struct(
    *_HEAD,
    "module" / Int32ul,  # its number
    "section" / Int32ul,
    "address" / Int64ul,  # at run time; 0: it is gone
)

SPACE_TOLD = Struct(
    *_HEAD,
    "pid" / Int32ul,
    "reserved" / Int32ul,
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
    "symbol" / Bytes(256),  # of a place or a tracepoint, with module: before it in a module
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
    "flat_bytes" / Int32ul,  # at the most, of a stack that is copied as it is
    "reserved" / Int32ul,
)

USER_TABLE_MESSAGE = Struct(
    "id" / Int64ul,  # by which mappings name it, not 0; the table follows
)

TARGET_MESSAGE = Struct(
    "pid" / Int32ul,  # 0: none yet
    "reserved" / Int32ul,
)

SPACE_MESSAGE = Struct(
    "generation" / Int64ul,  # not 0
    "start_stack" / Int64ul,  # of the process that the mappings were read of
    "pid" / Int32ul,
    "mapping_count" / Int32ul,  # SPACE_MAPPINGs that follow, sorted; none: forget the process
)

SPACE_MAPPING = Struct(
    "start" / Int64ul,
    "end" / Int64ul,
    "bias" / Int64ul,  # run-time address less file virtual address
    "file_offset" / Int64ul,
    "inode" / Int64ul,  # 0: no file
    "table" / Int64ul,  # the id of its table, 0 for none
)

STRUCTURES = {
    "record_head": RECORD_HEAD,
    "hit": HIT,
    "run_told": RUN_TOLD,
    "flat": FLAT,
    "finished": FINISHED,
    "section_placed": SECTION_PLACED,
    "space_told": SPACE_TOLD,
    "message_header": MESSAGE_HEADER,
    "anchor_message": ANCHOR_MESSAGE,
    "table_message": TABLE_MESSAGE,
    "trampoline_message": TRAMPOLINE_MESSAGE,
    "probe_message": PROBE_MESSAGE,
    "start_message": START_MESSAGE,
    "user_table_message": USER_TABLE_MESSAGE,
    "space_message": SPACE_MESSAGE,
    "space_mapping": SPACE_MAPPING,
    "module_message": MODULE_MESSAGE,
    "module_section": MODULE_SECTION,
    "placement_message": PLACEMENT_MESSAGE,
    "target_message": TARGET_MESSAGE,
}

# Each enum: name, (member, value, meaning).
RECORD_KIND = (
    ("HIT", 1, "a probe was hit"),
    ("FINISHED", 2, "a CPU's last: how many hits there were"),
    ("SPACE", 8, "the collector's: the mappings that were told of a process"),
    ("MODULE_SECTION", 10, "where code of a module lies from now on"),
)
HIT_FLAG = (
    ("REACHED_USER", 1, "the walk came to the code that entered the kernel: the kernel's stack is whole"),
    ("WORDS_LEFT_OUT", 2, "the walk read more memory than a record has room for"),
    ("RETURN_PROBE", 4, "the function has returned: the pc is its caller's"),
    ("USER_STACK", 8, "the record has the user's stack, too"),
    ("USER_FLAT", 16, "what follows from where the walk of the user's stack ended is in the record as it was, bounded"),
    ("USER_UNTOLD", 32, "the process's mappings were not told, or have changed since"),
    ("UNDECIDED", 64, "what is known at the probe does not tell whether the stack is wanted"),
    ("WANTED", 128, "the predicate holds"),
    ("CALLED", 512, "the pc is where the code goes on that has called the probe"),
    ("USER_NARROW", 1024, "the user's code was of 32 bits: its stack is not walked at the probe, but copied"),
)
MESSAGE_KIND = (
    ("ANCHOR", 1, "where a symbol was linked to: they tell the slide, and have to agree"),
    ("TABLE", 2, "a compact unwind table and the code that it is for"),
    ("TRAMPOLINE", 3, "what return probes put in place of return addresses"),
    ("PROBE", 4, "a probe"),
    ("START", 5, "register the probes; nothing more can be added but tables and mappings of processes"),
    ("STOP", 6, "unregister the probes; what was recorded can still be read"),
    ("USER_TABLE", 7, "a compact unwind table of a program or library"),
    ("SPACE", 8, "the mappings of a process, in place of those told before"),
    ("PREDICATE", 9, "a program that tells which stacks are wanted (predicate_schema.py)"),
    ("MODULE", 10, "a module of the kernel whose code is probed or walked through, loaded or not"),
    ("PLACEMENT", 11, "where a section of a loaded module lies"),
    ("TARGET", 13, "record only hits of this process, of those told before, and of all that they start from now on"),
)
PROBE_KIND = (
    ("ENTRY", 1, "an instruction of the kernel"),
    ("RETURN", 2, "the return of a function"),
    ("USER_ENTRY", 10, "an instruction of a program or library: the symbol is the file's path, the offset one in it"),
    ("USER_RETURN", 11, "the return of the function that begins there"),
    ("TIMER", 20, "samples of whatever runs on each processor"),
    ("TRACEPOINT", 21, "a tracepoint of the kernel"),
)
PROBE_FLAG = (("OPTIONAL", 1, "where the kernel does not probe that, the other probes go on"),)
SLICES = (
    ("NONE", 0, "registers and addresses only"),
    ("WORDS", 1, "the words that the walk read"),
    ("FRAMES", 2, "both ends of every frame of the user, too"),
    ("FLAT", 3, "the user's stack as it is, as far as the limit, without a walk at the probe"),
)
START_FLAG = (
    ("ORACLE", 1, "record what the kernel's own unwinder says, too"),
    ("FORGET", 256, "look up every address anew at each hit, to measure what that costs"),
    ("NO_USER", 512, "leave the user's stack alone"),
)
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
    "RECORD_VERSION": 3,
    "GAP_FAR": 0xFFFF,
    "GROUP_ENTRIES": 8,
    "HIGH_ONES": 1,
    "HIGH_TOLD": 2,
    "HIGH_OTHER": 15,
    "MAXIMUM_FRAMES": 128,
    "MAXIMUM_USER_FRAMES": 256,
    "MAXIMUM_USER_TABLES": 4096,
    "MAXIMUM_SPACES": 4096,
    "MAXIMUM_TARGETS": 4096,
    "MAXIMUM_SPACE_MAPPINGS": 16384,
    "MAXIMUM_FLAT_BYTES": 1 << 16,
    "MAXIMUM_PROBES": 4096,
    "MAXIMUM_MODULES": 256,
    "MAXIMUM_MODULE_SECTIONS": 4096,
    "MAXIMUM_FREQUENCY": 100_000,
    "MINIMUM_RING_BYTES": 1 << 16,
    "MAXIMUM_RING_BYTES": 1 << 28,
    "START_FLAGS": sum(value for _, value, _ in START_FLAG),  # all of them: any other is refused
    "PROBE_FLAGS": sum(value for _, value, _ in PROBE_FLAG),
}
