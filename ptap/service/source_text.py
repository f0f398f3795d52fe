"""The source API, /source/v1: the text of a source file that the debugging information of a module names.

What is asked for is compared, as text, with the names in the debugging information, so that no other path can be
asked for; what such a name leads to has to be a plain file of text: no symbolic link, nothing of the kernel's.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from werkzeug.exceptions import BadRequest, Forbidden, NotFound, RequestEntityTooLarge

from ptap.profile.json_text import json_text
from ptap.service.json_request import member
from ptap.service.module_directory import SYMBOL_ERRORS, UnknownModule

if TYPE_CHECKING:
    from ptap.service.module_directory import ModuleDirectory, ServedModule

_OFFSET = re.compile(r"0x(-?)([0-9a-fA-F]{1,16})")
_KERNELS = ("/proc", "/sys", "/dev")


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """What is asked for."""

    debug_name: str
    debug_id: str
    offset: int | None
    """In the module, an address whose code is of the file; None where the asker knows none."""
    file: str


def read_source_request(request: Any) -> SourceRequest:
    """The request that a JSON value is. Raises BadRequest."""
    name, identity, offset, file = (
        member(request, key, str, "the request") for key in ("debugName", "debugId", "moduleOffset", "file")
    )
    matched = _OFFSET.fullmatch(offset)
    if matched is None:
        raise BadRequest("'moduleOffset' of the request has to be hexadecimal, such as '0x1139'")
    # The Firefox Profiler has -1 for frames whose address it does not know.
    return SourceRequest(name, identity, None if matched[1] else int(matched[2], 16), file)


def source_answer(asked: SourceRequest, directory: ModuleDirectory, sysroot: str, limit: int) -> dict[str, Any]:
    """The answer, with the file's text. Raises NotFound, Forbidden, RequestEntityTooLarge."""
    try:
        files = _named_files(directory.find(asked.debug_name, asked.debug_id), asked.offset)
    except (UnknownModule, *SYMBOL_ERRORS) as error:
        raise NotFound(json_text(str(error))) from None
    named = next((each for each in files if json_text(each) == asked.file), None)
    if named is None:
        raise Forbidden("the debugging information of the module names no such file")
    text = read_source(named, sysroot, limit)
    return {"symbolsLastModified": None, "sourceLastModified": None, "file": asked.file, "source": text}


def _named_files(module: ServedModule, offset: int | None) -> frozenset[str]:
    """The source files of a module; of one that can have no index those of the code at the offset."""
    if module.source_files or offset is None:
        return module.source_files
    found = module.symbolizer.frames(np.array([(module.base + offset) % (1 << 64)], dtype=np.uint64))
    return frozenset(found.file_table[number] for number in found.files.tolist()) - {""}


def read_source(named: str, sysroot: str, limit: int) -> str:
    """The text of the file that is named so on the machine that was traced. Raises NotFound, Forbidden, …"""
    if not named.startswith("/"):
        raise NotFound("the debugging information does not tell in which folder the file is")
    root = os.path.realpath(sysroot)
    place = os.path.join(root, named.lstrip("/"))
    # Folders may be links, as machines are laid out; the file may not, and none leads out of the given root.
    real = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))
    if os.path.commonpath([root, real]) != root or os.path.basename(real) in ("", ".", ".."):
        raise Forbidden("the file lies outside of what is served")
    if any(os.path.commonpath([each, real]) == each for each in _KERNELS):
        raise Forbidden("the file is one of the kernel's, and no source")
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if os.path.islink(real):
            raise Forbidden("the file is a symbolic link, which is not followed") from None
        raise NotFound(f"the source file cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Forbidden("what is there is no file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    return _text_of(content, limit)


def _text_of(content: bytes, limit: int) -> str:
    if len(content) > limit:
        raise RequestEntityTooLarge(f"the source file has more than {limit} bytes")
    if b"\0" in content:
        raise Forbidden("the file is no text")
    with suppress(UnicodeDecodeError):
        return content.decode("utf-8")
    return content.decode("latin-1")  # every byte is there, as some letter
