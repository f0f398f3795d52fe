"""The messages of pprof's profile.proto, declared for the protobuf library: names, numbers and types of their fields.

The facts are those of proto/profile.proto of github.com/google/pprof (package perftools.profiles).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ptap.profile.protobuf_columns import LENGTH, VARINT

_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "ValueType": (("type", 1, "int64"), ("unit", 2, "int64")),
    "Sample": (
        ("location_id", 1, "repeated uint64"),
        ("value", 2, "repeated int64"),
        ("label", 3, "repeated Label"),
    ),
    "Label": (("key", 1, "int64"), ("str", 2, "int64"), ("num", 3, "int64"), ("num_unit", 4, "int64")),
    "Mapping": (
        ("id", 1, "uint64"),
        ("memory_start", 2, "uint64"),
        ("memory_limit", 3, "uint64"),
        ("file_offset", 4, "uint64"),
        ("filename", 5, "int64"),
        ("build_id", 6, "int64"),
        ("has_functions", 7, "bool"),
        ("has_filenames", 8, "bool"),
        ("has_line_numbers", 9, "bool"),
        ("has_inline_frames", 10, "bool"),
    ),
    "Location": (
        ("id", 1, "uint64"),
        ("mapping_id", 2, "uint64"),
        ("address", 3, "uint64"),
        ("line", 4, "repeated Line"),
        ("is_folded", 5, "bool"),
    ),
    "Line": (("function_id", 1, "uint64"), ("line", 2, "int64"), ("column", 3, "int64")),
    "Function": (
        ("id", 1, "uint64"),
        ("name", 2, "int64"),
        ("system_name", 3, "int64"),
        ("filename", 4, "int64"),
        ("start_line", 5, "int64"),
    ),
    "Profile": (
        ("sample_type", 1, "repeated ValueType"),
        ("sample", 2, "repeated Sample"),
        ("mapping", 3, "repeated Mapping"),
        ("location", 4, "repeated Location"),
        ("function", 5, "repeated Function"),
        ("string_table", 6, "repeated string"),
        ("drop_frames", 7, "int64"),
        ("keep_frames", 8, "int64"),
        ("time_nanos", 9, "int64"),
        ("duration_nanos", 10, "int64"),
        ("period_type", 11, "ValueType"),
        ("period", 12, "int64"),
        ("comment", 13, "repeated int64"),
        ("default_sample_type", 14, "int64"),
    ),
}
_PACKAGE = "perftools.profiles"


def field_tag(message: str, field: str) -> int:
    """What a field begins with where it is encoded: one byte, since all numbers are below 16."""
    number, kind = next((number, kind) for name, number, kind in _MESSAGES[message] if name == field)
    return number << 3 | (LENGTH if " " in kind or kind in _MESSAGES or kind == "string" else VARINT)


@cache
def profile_message() -> type[Any]:
    """The class of the message Profile."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package=_PACKAGE, syntax="proto3")
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, described in fields:
            *repeated, kind = described.split()
            one = message.field.add(name=field, number=number)
            one.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if kind in _MESSAGES:
                one.type, one.type_name = field_type.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                one.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Profile"))
