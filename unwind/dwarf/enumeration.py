"""DWARF numbers as enumerations, for code that shows or evaluates them (DWARF 5 §7.5.3, §7.5.4, §7.7, §7.8; GNU
extensions).

Those that the hot loops need too are plain integers in constants.py, which numba takes as they are; each number stands
in one of the two files.
"""

from __future__ import annotations

from enum import IntEnum

from unwind.dwarf import constants as C


class Tag(IntEnum):
    """DW_TAG, table 7.3."""

    ARRAY_TYPE = C.DW_TAG_array_type
    CLASS_TYPE = C.DW_TAG_class_type
    ENUMERATION_TYPE = C.DW_TAG_enumeration_type
    FORMAL_PARAMETER = C.DW_TAG_formal_parameter
    LEXICAL_BLOCK = 0x0B
    MEMBER = 0x0D
    POINTER_TYPE = 0x0F
    REFERENCE_TYPE = 0x10
    COMPILE_UNIT = C.DW_TAG_compile_unit
    STRUCTURE_TYPE = C.DW_TAG_structure_type
    SUBROUTINE_TYPE = C.DW_TAG_subroutine_type
    TYPEDEF = 0x16
    UNION_TYPE = C.DW_TAG_union_type
    UNSPECIFIED_PARAMETERS = 0x18
    INHERITANCE = 0x1C
    INLINED_SUBROUTINE = C.DW_TAG_inlined_subroutine
    PTR_TO_MEMBER_TYPE = 0x1F
    SUBRANGE_TYPE = 0x21
    TEMPLATE_TYPE_PARAMETER = 0x2F
    TEMPLATE_VALUE_PARAMETER = 0x30
    VARIANT = 0x19
    VARIANT_PART = 0x33
    GENERIC_SUBRANGE = 0x45
    BASE_TYPE = 0x24
    CONST_TYPE = 0x26
    ENUMERATOR = 0x28
    SUBPROGRAM = C.DW_TAG_subprogram
    VARIABLE = 0x34
    VOLATILE_TYPE = 0x35
    RESTRICT_TYPE = 0x37
    NAMESPACE = C.DW_TAG_namespace
    UNSPECIFIED_TYPE = 0x3B
    RVALUE_REFERENCE_TYPE = 0x42
    ATOMIC_TYPE = 0x47
    CALL_SITE = 0x48
    CALL_SITE_PARAMETER = 0x49
    GNU_TEMPLATE_PARAMETER_PACK = 0x4107
    GNU_CALL_SITE = 0x4109
    GNU_CALL_SITE_PARAMETER = 0x410A


class At(IntEnum):
    """DW_AT, table 7.5."""

    LOCATION = C.DW_AT_location
    NAME = C.DW_AT_name
    BYTE_SIZE = 0x0B
    BIT_OFFSET = 0x0C
    BIT_SIZE = 0x0D
    LOW_PC = C.DW_AT_low_pc
    CONST_VALUE = 0x1C
    DISCR = 0x15
    DISCR_VALUE = 0x16
    LOWER_BOUND = 0x22
    BIT_STRIDE = 0x2E
    DISCR_LIST = 0x3D
    DATA_LOCATION = 0x50
    BYTE_STRIDE = 0x51
    ALIGNMENT = 0x88
    UPPER_BOUND = 0x2F
    PROTOTYPED = 0x27
    ABSTRACT_ORIGIN = C.DW_AT_abstract_origin
    ARTIFICIAL = 0x34
    COUNT = 0x37
    DATA_MEMBER_LOCATION = C.DW_AT_data_member_location
    DECL_LINE = C.DW_AT_decl_line
    DECLARATION = C.DW_AT_declaration
    ENCODING = 0x3E
    EXTERNAL = 0x3F
    FRAME_BASE = C.DW_AT_frame_base
    SPECIFICATION = C.DW_AT_specification
    TYPE = 0x49
    VIRTUALITY = 0x4C
    VTABLE_ELEM_LOCATION = C.DW_AT_vtable_elem_location
    CONTAINING_TYPE = 0x1D
    ENTRY_PC = C.DW_AT_entry_pc
    OBJECT_POINTER = 0x64
    SIGNATURE = C.DW_AT_signature
    DATA_BIT_OFFSET = 0x6B
    ENUM_CLASS = 0x6D
    LINKAGE_NAME = C.DW_AT_linkage_name
    CALL_RETURN_PC = 0x7D
    CALL_VALUE = 0x7E
    CALL_ORIGIN = 0x7F
    CALL_PARAMETER = 0x80
    CALL_TAIL_CALL = 0x82
    CALL_TARGET = 0x83
    CALL_DATA_VALUE = 0x86
    CALLING_CONVENTION = 0x36
    EXPORT_SYMBOLS = 0x89
    MIPS_LINKAGE_NAME = C.DW_AT_MIPS_linkage_name
    GNU_VECTOR = 0x2107
    GNU_CALL_SITE_VALUE = 0x2111
    GNU_CALL_SITE_DATA_VALUE = 0x2112
    GNU_CALL_SITE_TARGET = 0x2113
    GNU_TAIL_CALL = 0x2115


class Encoding(IntEnum):
    """DW_ATE, table 7.11."""

    ADDRESS = 0x01
    BOOLEAN = 0x02
    COMPLEX_FLOAT = 0x03
    FLOAT = 0x04
    SIGNED = 0x05
    SIGNED_CHAR = 0x06
    UNSIGNED = 0x07
    UNSIGNED_CHAR = 0x08
    UTF = 0x10


class Op(IntEnum):
    """DW_OP, table 7.9. Ranges (lit, reg, breg) have their first and last member here."""

    ADDR = 0x03
    DEREF = 0x06
    CONST1U = 0x08
    CONST1S = 0x09
    CONST2U = 0x0A
    CONST2S = 0x0B
    CONST4U = 0x0C
    CONST4S = 0x0D
    CONST8U = 0x0E
    CONST8S = 0x0F
    CONSTU = 0x10
    CONSTS = 0x11
    DUP = 0x12
    DROP = 0x13
    OVER = 0x14
    PICK = 0x15
    SWAP = 0x16
    ROT = 0x17
    XDEREF = 0x18
    ABS = 0x19
    AND = 0x1A
    DIV = 0x1B
    MINUS = 0x1C
    MOD = 0x1D
    MUL = 0x1E
    NEG = 0x1F
    NOT = 0x20
    OR = 0x21
    PLUS = 0x22
    PLUS_UCONST = 0x23
    SHL = 0x24
    SHR = 0x25
    SHRA = 0x26
    XOR = 0x27
    BRA = 0x28
    EQ = 0x29
    GE = 0x2A
    GT = 0x2B
    LE = 0x2C
    LT = 0x2D
    NE = 0x2E
    SKIP = 0x2F
    LIT0 = 0x30
    LIT31 = 0x4F
    REG0 = 0x50
    REG31 = 0x6F
    BREG0 = 0x70
    BREG31 = 0x8F
    REGX = 0x90
    FBREG = 0x91
    BREGX = 0x92
    PIECE = 0x93
    DEREF_SIZE = 0x94
    XDEREF_SIZE = 0x95
    NOP = 0x96
    PUSH_OBJECT_ADDRESS = 0x97
    CALL2 = 0x98
    CALL4 = 0x99
    CALL_REF = 0x9A
    FORM_TLS_ADDRESS = 0x9B
    CALL_FRAME_CFA = 0x9C
    BIT_PIECE = 0x9D
    IMPLICIT_VALUE = 0x9E
    STACK_VALUE = 0x9F
    IMPLICIT_POINTER = 0xA0
    ADDRX = 0xA1
    CONSTX = 0xA2
    ENTRY_VALUE = 0xA3
    CONST_TYPE = 0xA4
    REGVAL_TYPE = 0xA5
    DEREF_TYPE = 0xA6
    XDEREF_TYPE = 0xA7
    CONVERT = 0xA8
    REINTERPRET = 0xA9
    GNU_PUSH_TLS_ADDRESS = 0xE0
    GNU_UNINIT = 0xF0
    GNU_IMPLICIT_POINTER = 0xF2
    GNU_ENTRY_VALUE = 0xF3
    GNU_CONST_TYPE = 0xF4
    GNU_REGVAL_TYPE = 0xF5
    GNU_DEREF_TYPE = 0xF6
    GNU_CONVERT = 0xF7
    GNU_REINTERPRET = 0xF9
    GNU_PARAMETER_REF = 0xFA
    GNU_ADDR_INDEX = 0xFB
    GNU_CONST_INDEX = 0xFC
    GNU_VARIABLE_VALUE = 0xFD


# DW_LANG codes of C++ (DWARF 5 table 7.17 and its registered additions).
C_PLUS_PLUS_LANGUAGES = frozenset({0x04, 0x19, 0x1A, 0x21, 0x2A, 0x2B})
RUST_LANGUAGE = 0x1C
# Languages whose arrays begin at 1 where nothing else is said (DWARF 5 table 7.17): Ada, Cobol, Fortran, Pascal,
# Modula, PL/I and Julia.
ONE_BASED_LANGUAGES = frozenset(
    {0x03, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0D, 0x0E, 0x0F, 0x17, 0x1F, 0x22, 0x23, 0x2D, 0x2E, 0x2F}
)
