"""Emulated instructions do to registers and memory exactly what the processor does."""

import os
import random
import re
import signal
import subprocess

import pytest

from ptap.backend.ptrace.address_space import AddressSpace
from ptap.backend.ptrace.instruction import emulate
from ptap.backend.ptrace.launch import launch
from ptap.backend.ptrace.registers import (
    BY_ENCODING,
    EFLAGS,
    FS_BASE,
    ORIG_RAX,
    RBP,
    RIP,
    RSP,
    read_registers,
    write_registers,
)
from ptap.backend.ptrace.syscalls import CONT, SINGLESTEP, ptrace

REGISTERS_64 = ["rax", "rbx", "rcx", "rsi", "rdi", "rbp", "r8", "r12", "r13", "r15"]
REGISTERS_32 = ["eax", "ebx", "edx", "esi", "ebp", "r9d", "r12d", "r14d"]
EMULATED = [
    "endbr64",
    "nop",
    *(f".byte {b}" for b in ("0x66,0x90", "0x0f,0x1f,0x00", "0x0f,0x1f,0x44,0x00,0x00")),
    *(f".byte {b}" for b in ("0x66,0x2e,0x0f,0x1f,0x84,0,0,0,0,0", "0x0f,0x1f,0x80,0,0,0,0")),
    *(f"push %{r}" for r in [*REGISTERS_64, "rsp"]),
    *(f"pop %{r}" for r in [*REGISTERS_64, "rsp"]),
    *(f"{op} $0x{n:x}, %{r}" for op in ("add", "or", "and", "sub", "xor", "cmp")
      for n in (1, 0x7F, 0x1234) for r in ("rsp", "rax", "r12", "ecx", "r9d")),
    *(f"{op} %{a}, %{b}" for op in ("add", "or", "and", "sub", "xor", "cmp", "test", "mov")
      for a, b in (("rax", "rbx"), ("r8", "r15"), ("rdi", "rdi"), ("r12", "rsi"), ("ecx", "r9d"), ("esi", "eax"))),
    "mov $0x12345678, %eax", "mov $-5, %r9", "movabs $0x123456789abcdef0, %r11", "mov $-1, %r12d",
    "push $5", "push $-5", "push $0x12345",
    "mov %rax, 8(%rsp)", "mov %r9d, -12(%rsp)", "mov 16(%rsp), %rbx", "mov (%rsp), %r10d",
    "lea 8(%rsp), %r10", "lea -0x200(%rsp), %rsp", "mov %rsp, %rbp", "leave",
    "mov %fs:0, %rax", "mov %fs:8, %r12", "mov %fs:8, %ecx",
    *(f".byte 0x{0x70 + c:x},0x04" for c in range(16)),
    *(f".byte 0x0f,0x{0x80 + c:x},0x04,0,0,0" for c in range(16)),
    ".byte 0xeb,0x10", ".byte 0xe9,0x10,0,0,0",
]  # fmt: skip
LEFT_TO_THE_PROCESSOR = [
    "mov (%rdi), %rax", "mov %rax, (%rsi)", "mov 8(%rsp,%rax), %rbx", "mov 8(%r12), %rbx", "mov x(%rip), %rax",
    "lea x(%rip), %rax", "lea (%rax,%rbx), %rcx", "call x", "ret", "syscall", "int3", "add %rax, (%rsp)",
    "adc $1, %rax", "sbb %rax, %rbx", "addw $1, %ax", "add $1, %al", "mov %ax, %bx", "xchg %rax, %r8", "pushf",
    "lock addl $1, (%rsp)", "rep movsb", "movaps %xmm0, (%rsp)", "pause", "mov %fs:(%rax), %rbx", "push 8(%rsp)",
    "vzeroupper", "test $1, %eax", "jmp *%rax", "hlt", "popw %ax",
]  # fmt: skip


@pytest.fixture
def stopped(tmp_path):
    """A stopped process whose text holds all the instructions: tid, memory, and their addresses and codes."""
    lines = [".globl _start", ".text", "_start: nop", "x: nop"]
    for number, text in enumerate([*EMULATED, *LEFT_TO_THE_PROCESSOR]):
        lines += [f"i_{number}: {text}", f"e_{number}: .skip 40, 0x90"]
    source, program = tmp_path / "all.s", tmp_path / "all"
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(["gcc", "-nostdlib", "-static", "-no-pie", "-o", program, source], check=True)
    symbols = subprocess.run(["readelf", "-sW", program], capture_output=True, text=True, check=True).stdout
    address = {
        match[2]: int(match[1], 16)
        for match in re.finditer(r"^ *\d+: ([0-9a-f]+) .* ([ie]_\d+)$", symbols, re.MULTILINE)
    }
    pid, _ = launch((str(program),))
    ptrace(SINGLESTEP, pid)  # out of execve, which writes rax on its way
    os.waitpid(pid, 0)
    space = AddressSpace.of_process(pid)
    yield pid, space, address
    space.release()
    os.kill(pid, signal.SIGKILL)
    while os.WIFSTOPPED(os.waitpid(pid, 0)[1]):  # at its end, PTRACE_EVENT_EXIT
        ptrace(CONT, pid)


def step(pid, registers):
    write_registers(pid, registers)
    ptrace(SINGLESTEP, pid)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP
    return read_registers(pid)


def test_the_processor_agrees(stopped):
    pid, space, address = stopped
    chance = random.Random(5)
    ordinary = read_registers(pid)
    ordinary[ORIG_RAX] = (1 << 64) - 1
    stack = (ordinary[RSP] & ~0xFFF) + 0x800
    interesting = (0, 1, 0x7F, 0x80, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1, (1 << 63) - 1)
    for number, text in enumerate(EMULATED):
        start = address[f"i_{number}"]
        code = space.read(start, 15)
        for _ in range(20):
            registers = list(ordinary)
            for index in BY_ENCODING:
                registers[index] = chance.choice(interesting) if chance.random() < 0.5 else chance.getrandbits(64)
            registers[RIP], registers[RSP], registers[RBP] = start, stack, stack + 64
            registers[FS_BASE] = stack + 128
            registers[EFLAGS] = 0x202 | chance.getrandbits(12) & 0x8D5
            memory = chance.randbytes(1024)
            assert space.write(stack - 512, memory)
            emulated = list(registers)
            assert emulate(code, emulated, space), text
            memory_emulated = space.read(stack - 512, 1024)
            assert space.write(stack - 512, memory)
            real = step(pid, registers)
            memory_real = space.read(stack - 512, 1024)
            assert emulated == real, text
            assert memory_emulated == memory_real, text


def test_what_is_not_surely_right_is_left_alone(stopped):
    pid, space, address = stopped
    for number, text in enumerate(LEFT_TO_THE_PROCESSOR, len(EMULATED)):
        registers = read_registers(pid)
        registers[RIP] = address[f"i_{number}"]
        registers[RSP] = (registers[RSP] & ~0xFFF) + 0x800
        before = list(registers)
        assert not emulate(space.read(registers[RIP], 15), registers, space), text
        assert registers == before, text


def test_a_push_across_a_page_and_a_set_trap_flag_are_left_alone(stopped):
    pid, space, address = stopped
    code = space.read(address[f"i_{EMULATED.index('push %rax')}"], 15)
    registers = read_registers(pid)
    registers[RSP] &= ~0xFFF
    assert not emulate(code, list(registers), space)
    registers[RSP] += 0x800
    assert emulate(code, list(registers), space)
    registers[EFLAGS] |= 0x100
    assert not emulate(code, list(registers), space)


def test_cut_code_is_left_alone(stopped):
    pid, space, address = stopped
    for number, _ in enumerate(EMULATED):
        start, end = address[f"i_{number}"], address[f"e_{number}"]
        for length in range(end - start):
            registers = read_registers(pid)
            registers[RSP] = (registers[RSP] & ~0xFFF) + 0x800
            assert not emulate(space.read(start, length), registers, space)
