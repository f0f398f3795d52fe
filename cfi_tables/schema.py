"""The compact table's layout, declared once.

Owns every structure, kind and reason that the table's readers share: `generate.py` writes the C header and
the Python constants from here. Everything is little endian and naturally aligned, so that it is looked up in
place.

A table is: header, block index, states, rules, register lists, deltas, blocks, expression pool. All offsets in the
header are bytes from the table's own start, so tables can lie back to back in one arena. Addresses count from
`text_start` rounded down to DELTA_ALIGNMENT.

* Block index: the address of each block's first row, a u32 each, growing.
* Blocks: `block_bytes` each; how rows are coded in them stands in `rows.py`.
* States: for each rule id, most frequent first, a step word (below) whose length and delta class are zero.
* Rules: u32 words. Word 0 is unused. A rule is a RULE record and, right behind it, its successors: a prefix code's
  decoding table of 2**bits step words, indexed by the next `bits` bits of a block.
* Step word: bits 0-3 the code's length, 4-7 the class of the delta that follows, 8-11 `bits` of the next rule's
  successors, 12-31 the next rule's record as a word index, or 0: the rule's id follows the code, in `rule_bits` bits.
* Deltas: for each class a prefix code's decoding table of 2**delta_bits u16 words: bits 0-3 the code's length, 4-7 how
  many more bits follow it (DELTA_EXTRA_U32: 32), 8-15 a base. The delta is the sum of the base and those bits; a sum
  of zero stands for the step to the next multiple of DELTA_ALIGNMENT.
* Register lists: u32 words, shared by rules. A list is a word of count (bits 0-7) and flags (bits 8-15), then as many
  entries: bits 0-5 the register's number, 6-8 how it is found, 9-31 a signed value.
* Expression pool: 16-bit length, then the DWARF expression's bytes, padded to 2; offsets count from its start.
"""

from __future__ import annotations

from construct import Bytes, Int8ul, Int16ul, Int32sl, Int32ul, Int64ul, Struct

MAGIC = 0x42544650  # "PFTB"
FORMAT_VERSION = 3

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
    "row_count" / Int32ul,  # without the row at text_end that closes the last block
    "rule_count" / Int32ul,
    "block_count" / Int32ul,
    "rule_bits" / Int8ul,  # of a rule id in a block
    "delta_bits" / Int8ul,  # that index a delta class
    "class_count" / Int8ul,  # of deltas
    "block_bytes" / Int8ul,
    "index_offset" / Int32ul,
    "states_offset" / Int32ul,
    "rules_offset" / Int32ul,
    "rules_size" / Int32ul,
    "lists_offset" / Int32ul,
    "lists_size" / Int32ul,
    "deltas_offset" / Int32ul,
    "blocks_offset" / Int32ul,
    "expressions_offset" / Int32ul,
    "expressions_size" / Int32ul,
    "skipped_count" / Int32ul,  # FDEs left out because they are damaged or not understood
    "reserved_end" / Int32ul,
)

RULE = Struct(
    "cfa_kind" / Int8ul,
    "cfa_register" / Int8ul,
    "list" / Int16ul,  # of registers: a word index from lists_offset
    "cfa_value" / Int32sl,  # what CFA_KIND tells
)

STRUCTURES = {"header": HEADER, "rule": RULE}

# Each enum: name, (member, value, meaning).
CFA_KIND = (
    ("INVALID", 0, "a gap: no information"),
    ("END", 1, "the outermost frame: the return address is undefined"),
    ("REGISTER_OFFSET", 2, "CFA = register + cfa_value"),
    ("DEREF", 3, "CFA = *(register + a) + b: signed 16 bits each, a the low half of cfa_value and b the high one"),
    ("EXPRESSION", 4, "CFA = value of the DWARF expression at offset cfa_value in the pool"),
    ("OVERFLOW", 5, "the rule does not fit the table"),
)
REGISTER_KIND = (
    ("UNDEFINED", 0, "the caller's value is lost"),
    ("SAME", 1, "not changed"),
    ("AT_CFA", 2, "saved at CFA + value"),
    ("CFA_PLUS", 3, "is CFA + value"),
    ("IN_REGISTER", 4, "is in register number value"),
    ("EXPRESSION", 5, "saved at the address that the DWARF expression at offset value in the pool gives"),
    ("VAL_EXPRESSION", 6, "is what the DWARF expression at offset value in the pool gives"),
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
    "MINIMUM_BLOCK_BYTES": 3,
    "MAXIMUM_BLOCK_BYTES": 32,
    "BLOCK_SPARE_BYTES": 24,  # behind the last block, so that a row which begins in it can be read without a check
    "BLOCK_ROWS": 64,  # at most, in a block
    "DELTA_ALIGNMENT": 16,  # of functions
    "DELTA_NEAR_EXTRA": 5,  # a delta with as many further bits, or fewer, is read with its code
    "DELTA_EXTRA_U32": 15,  # instead of a number of bits: 32 of them
    "MAXIMUM_CLASSES": 16,
    "MAXIMUM_RULES": 0xFFFF,
    "MAXIMUM_RULE_WORDS": 1 << 20,
    "MAXIMUM_LIST_WORDS": 1 << 16,
}
