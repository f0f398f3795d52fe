"""The compact table's layout, declared once.

Owns every structure, kind and reason that the table's readers share: `generate.py` writes the C header and
the Python constants from here. Everything is little endian and naturally aligned, so that it is looked up in
place.

A table is: header, block index, rule offsets, rows, rule records, expression pool. All offsets in it are
bytes from its own start, so tables can lie back to back in one arena.
"""

from __future__ import annotations

from construct import Bytes, Int8ul, Int16ul, Int32sl, Int32ul, Int64ul, Struct

MAGIC = 0x42544650  # "PFTB"
FORMAT_VERSION = 1

HEADER = Struct(
    "magic" / Int32ul,
    "format_version" / Int16ul,
    "machine" / Int16ul,  # EM_* of the ELF header
    "checksum" / Int32ul,  # CRC-32 of the whole table with this field zero
    "table_size" / Int32ul,  # bytes, a multiple of 8
    "text_start" / Int64ul,  # file virtual address of the first row
    "text_end" / Int64ul,  # first address behind the last row
    "build_id" / Bytes(20),  # longer ids are cut here; the cache's file name has them whole
    "build_id_size" / Int32ul,
    "row_count" / Int32ul,
    "rule_count" / Int32ul,
    "block_count" / Int32ul,
    "index_offset" / Int32ul,
    "rule_offsets_offset" / Int32ul,
    "rows_offset" / Int32ul,
    "rows_size" / Int32ul,
    "records_offset" / Int32ul,
    "records_size" / Int32ul,
    "expressions_offset" / Int32ul,
    "expressions_size" / Int32ul,
    "skipped_count" / Int32ul,  # FDEs left out because they are damaged or not understood
)

INDEX_ENTRY = Struct(
    "pc" / Int32ul,  # of the block's first row, from text_start
    "offset" / Int32ul,  # of the block's first byte, from rows_offset
)

RULE = Struct(
    "cfa_kind" / Int8ul,
    "cfa_register" / Int8ul,
    "flags" / Int8ul,
    "count" / Int8ul,
    "cfa_a" / Int32sl,
    "cfa_b" / Int32sl,
)

RULE_ENTRY = Struct(
    "register_number" / Int8ul,
    "kind" / Int8ul,
    "reserved" / Int16ul,
    "value" / Int32sl,
)

STRUCTURES = {"header": HEADER, "index_entry": INDEX_ENTRY, "rule": RULE, "rule_entry": RULE_ENTRY}

# Each enum: name, (member, value, meaning).
CFA_KIND = (
    ("INVALID", 0, "a gap: no information"),
    ("END", 1, "the outermost frame: the return address is undefined"),
    ("REGISTER_OFFSET", 2, "CFA = register + cfa_a"),
    ("DEREF", 3, "CFA = *(register + cfa_a) + cfa_b"),
    ("EXPRESSION", 4, "CFA = value of the DWARF expression at offset cfa_a"),
    ("OVERFLOW", 5, "the rule does not fit the table"),
)
REGISTER_KIND = (
    ("UNDEFINED", 0, "the caller's value is lost"),
    ("SAME", 1, "not changed"),
    ("AT_CFA", 2, "saved at CFA + value"),
    ("CFA_PLUS", 3, "is CFA + value"),
    ("IN_REGISTER", 4, "is in register number value"),
    ("EXPRESSION", 5, "saved at the address that the DWARF expression at offset value gives"),
    ("VAL_EXPRESSION", 6, "is what the DWARF expression at offset value gives"),
)
RULE_FLAG = (
    ("SIGNAL_FRAME", 1, "the caller was interrupted: its pc is no return address"),
    ("RETURN_ADDRESS_SIGNED", 2, "aarch64 pointer authentication"),
    ("SIGNED_WITH_KEY_B", 4, "a signed return address was signed with the B key"),
)
STOP_REASON = (
    ("END_OF_STACK", 0, "the outermost frame was reached"),
    ("NO_MAPPING", 1, "the pc lies in no known mapping"),
    ("NO_TABLE", 2, "the module has no CFI or cannot be read"),
    ("NO_ROW", 3, "the module's CFI does not cover the pc"),
    ("MEMORY_NOT_CAPTURED", 4, "the frame needs memory that is not in the capture"),
    ("STACK_CUT", 5, "the capture's size limit ended the stack slice"),
    ("BAD_CFA", 6, "the CFA did not grow or is misaligned"),
    ("UNKNOWN_REGISTER", 7, "the rule needs a register whose value is not known"),
    ("BAD_EXPRESSION", 8, "a DWARF expression is damaged or not supported"),
    ("OVERFLOW", 9, "the rule did not fit the table"),
    ("TOO_DEEP", 10, "the depth limit was reached"),
    ("RETURN_TRAMPOLINE", 11, "a return trampoline whose real return address is not known"),
    ("NO_REGISTERS", 12, "the sample had no user registers"),
    ("NO_PROGRESS", 13, "the caller's frame is the same as this one"),
)
FRAME_PROBLEM = (
    ("NONE", 0, "no problem"),
    ("TRUNCATED", 1, "the entry runs behind the end of its section"),
    ("BAD_CIE", 2, "the CIE is damaged or not there"),
    ("UNKNOWN_VERSION", 3, "the CIE's version is not known"),
    ("UNKNOWN_AUGMENTATION", 4, "the CIE's augmentation is not known"),
    ("BAD_POINTER", 5, "an encoded pointer is damaged or of a kind that only a running program can resolve"),
    ("BAD_RANGE", 6, "the address range is empty or impossible"),
    ("DEAD", 7, "the code is not in the file: the linker discarded it"),
    ("BAD_INSTRUCTION", 8, "a call frame instruction is not known or damaged"),
    ("STATE_STACK", 9, "remember_state nests too deeply, or restore_state has nothing to restore"),
    ("RETURN_COLUMN", 10, "the return address is in an unusual column"),
    ("BACKWARD", 11, "the location goes backward"),
)
ENUMS = {
    "cfa_kind": CFA_KIND,
    "register_kind": REGISTER_KIND,
    "rule_flag": RULE_FLAG,
    "stop_reason": STOP_REASON,
    "frame_problem": FRAME_PROBLEM,
}

CONSTANTS = {
    "TABLE_MAGIC": MAGIC,
    "FORMAT_VERSION": FORMAT_VERSION,
    "BLOCK_ROWS": 32,  # rows of a block; the last block may be shorter
    "DELTA_U16": 0xFE,  # pc delta escape: a 16-bit delta follows
    "DELTA_U32": 0xFF,  # a 32-bit delta follows
    "RULE_U16": 0xFF,  # rule id escape: a 16-bit id follows
    "MAXIMUM_RULES": 0xFFFF,
}
