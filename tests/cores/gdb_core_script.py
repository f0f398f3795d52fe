"""Runs inside gdb on a core file: writes every variable of every frame of every thread as JSON.

Input from the environment: PTAP_CORE_VALUES, the file to write. A frame gives its pc, the function's name, and its
variables from the innermost block out: (name, is argument, raw text, text by pretty printers, nested errors are in
them). A variable that gdb cannot tell has None. Frames that gdb invents for tail calls are left out.
"""

import json
import os
import sys

import gdb

for setting in (
    "pagination off", "width 0", "confirm off", "print entry-values no", "print frame-arguments all",
    "print pretty off", "backtrace past-main on", "print static-members off", "backtrace limit 1000",
):  # fmt: skip
    gdb.execute("set " + setting)


# gdb finds the printers of the C++ library by the path of its file on this machine, but not in another one's.
if "PTAP_CORE_PRINTERS" in os.environ:
    sys.path.insert(0, os.environ["PTAP_CORE_PRINTERS"])
    from libstdcxx.v6.printers import register_libstdcxx_printers

    register_libstdcxx_printers(None)


def texts(symbol, frame):
    """(raw, pretty) of a variable; None for what gdb does not know."""
    try:
        value = symbol.value(frame)
        if value.is_optimized_out or value.format_string(raw=True) == "<unavailable>":
            return None, None
    except (gdb.error, gdb.MemoryError, RuntimeError):
        return None, None
    found = []
    for raw in (True, False):
        try:
            found.append(value.format_string(raw=raw, static_members=False, deref_refs=True))
        except (gdb.error, gdb.MemoryError, RuntimeError, UnicodeError):
            found.append(None)
    return found[0], found[1]


def variables(frame):
    """Those of the blocks in scope, innermost first."""
    try:
        block = frame.block()
    except RuntimeError:
        return []
    found = []
    while block is not None and not block.is_static and not block.is_global:
        for symbol in block:
            if symbol.is_argument or symbol.is_variable:
                raw, pretty = texts(symbol, frame)
                found.append((symbol.name, symbol.is_argument, raw, pretty))
        if block.function is not None:
            break
        block = block.superblock
    return found


def thread_frames(thread):
    thread.switch()
    frames = []
    frame = gdb.newest_frame()
    while frame is not None:
        frame.select()
        if frame.type() != gdb.TAILCALL_FRAME:
            frames.append({"pc": frame.pc(), "function": frame.name(), "variables": variables(frame)})
        try:
            frame = frame.older()
        except gdb.error:
            break
    return frames


threads = {thread.ptid[1]: thread_frames(thread) for thread in gdb.selected_inferior().threads()}
with open(os.environ["PTAP_CORE_VALUES"], "w") as answer:
    json.dump(threads, answer)
