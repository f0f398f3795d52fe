"""Runs inside gdb: stops at given addresses and writes every frame's registers, arguments and memory as JSON lines.

Input from the environment: STOPS (file virtual addresses, one a line), DUMP (the file to write), RETURNS ("1":
finish the innermost frame at each stop and write what it returned, too).
"""

import json
import os

import gdb

NAMES = ["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)), "rip"]
for setting in (
    "pagination off", "width 0", "confirm off", "breakpoint pending off", "print entry-values no",
    "print frame-arguments all", "print pretty off", "disable-randomization on",
    "backtrace past-main on", "startup-with-shell off",
):  # fmt: skip
    gdb.execute("set " + setting)


def number(frame, name):
    return int(frame.read_register(name).cast(gdb.lookup_type("unsigned long")))


def vector(frame):
    found = {}
    for at in range(16):
        halves = frame.read_register(f"xmm{at}")["v2_int64"]
        found[17 + at] = b"".join(int(halves[i]).to_bytes(8, "little", signed=True) for i in (0, 1)).hex()
    return found


def arguments(frame):
    """(name, type, value) as gdb prints them."""
    frame.select()
    found = []
    text = {}
    for line in gdb.execute("info args", to_string=True).splitlines():
        name, separator, value = line.partition(" = ")
        if separator:
            text[name] = value
    try:
        block = frame.block()
    except RuntimeError:
        return found
    while block is not None and block.function is None:
        block = block.superblock
    for symbol in block or ():
        if symbol.is_argument and symbol.name in text:
            found.append((symbol.name, str(symbol.type), text[symbol.name]))
    return found


def after_prologue(frame):
    """Whether the frame is past the code of its function's first line."""
    function = frame.function()
    if function is None or function.symtab is None:
        return False
    return frame.pc() > (gdb.find_pc_line(function.value().address.cast(gdb.lookup_type("long"))).last or 0)


def image_base():
    """Run-time address of the program's first page, and its segments."""
    segments = []
    for line in gdb.execute("info proc mappings", to_string=True).splitlines():
        words = line.split()
        if len(words) >= 5 and words[0].startswith("0x"):
            segments.append((int(words[0], 16), int(words[1], 16), words[3], words[-1]))
    return segments


def dump_stop(handle, memory_of, bias, **more):
    frames = []
    frame = gdb.newest_frame()
    stack = number(frame, "rsp")
    kind = {gdb.INLINE_FRAME: "inline", gdb.NORMAL_FRAME: "normal"}
    level = 0
    while frame is not None and frame.is_valid():
        older = frame.older()
        name = frame.name()
        row = {
            "kind": kind.get(frame.type(), "other"),
            "name": name,
            "pc": frame.pc(),
            "registers": [number(frame, register) for register in NAMES],
            "arguments": arguments(frame),
        }
        row["body"] = level > 0 or after_prologue(frame)
        if level == 0:
            row["vector"] = vector(frame)
        frames.append(row)
        if name == "main" and frame.type() != gdb.INLINE_FRAME:
            row["cfa"] = number(older, "rsp") if older is not None else None
            break
        row["cfa"] = number(older, "rsp") if older is not None else None
        frame, level = older, level + 1
    handle.write(json.dumps({"frames": frames, "memory": memory_of(stack), "bias": bias, **more}) + "\n")


def main():
    program = gdb.current_progspace().filename
    with open(os.environ["STOPS"]) as stops:
        addresses = [int(line, 16) for line in stops]
    gdb.execute("break main")
    gdb.execute("run", to_string=True)
    gdb.execute("delete")
    own = [s for s in image_base() if s[3] == program]
    linked = int(os.environ["LINKED"], 16)
    bias = min(s[0] for s in own) - linked
    breakpoints = [gdb.Breakpoint(f"*{address + bias:#x}", internal=True) for address in addresses]
    inferior = gdb.selected_inferior()

    def memory_of(stack):
        ranges = [(stack - 4096, min(stack + 20000, top)) for _, top, _, name in image_base() if name == "[stack]"]
        ranges += [(s[0], s[1]) for s in own]
        ranges += [
            (low, min(low + int(os.environ.get("HEAP", "4096")), high))
            for low, high, _, name in image_base()
            if name == "[heap]"
        ]
        return [(low, bytes(inferior.read_memory(low, high - low)).hex()) for low, high in ranges]

    hits = {}
    with open(os.environ["DUMP"], "w") as handle:
        while inferior.pid:
            frame = gdb.newest_frame()
            pc = frame.pc()
            if os.environ.get("RETURNS") and pc - bias in addresses:
                for breakpoint in breakpoints:
                    breakpoint.enabled = False
                finish = gdb.FinishBreakpoint(gdb.newest_frame(), internal=True)
                gdb.execute("continue", to_string=True)
                for breakpoint in breakpoints:
                    breakpoint.enabled = True
                returned = None if finish.return_value is None else finish.return_value.format_string()
                dump_stop(handle, memory_of, bias, entry=pc - bias, returned=returned)
            elif not os.environ.get("RETURNS") and hits.get(pc, 0) < int(os.environ["HITS"]):
                dump_stop(handle, memory_of, bias)
            hits[pc] = hits.get(pc, 0) + 1
            if hits[pc] >= int(os.environ["HITS"]) and not os.environ.get("RETURNS"):
                for breakpoint in breakpoints:
                    if breakpoint.is_valid() and breakpoint.location == f"*{pc:#x}":
                        breakpoint.delete()
            gdb.execute("continue", to_string=True)


main()
