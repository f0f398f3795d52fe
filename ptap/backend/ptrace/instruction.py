"""Instructions that a stopped thread can be taken over without running them (Intel SDM volume 2).

Emulating the instruction under a breakpoint spares a single step, for which every other thread of the process
would have to stand still. Only what is surely right is done here; all else is left to the processor:

* no calls and returns, which write the shadow stack where there is one (CET);
* memory only at the stack pointer's own page, which the thread has just used: writes through /proc/PID/mem
  ignore page protection, and another thread's data could be seen or written in halves;
* nothing while the program has set its own trap flag.
"""

from __future__ import annotations

from typing import Final, Protocol

from ptap.backend.ptrace.registers import (
    BY_ENCODING,
    CS,
    CS_64,
    EFLAGS,
    FS_BASE,
    RBP,
    RIP,
    RSP,
)


class Memory(Protocol):
    """What the emulation may touch."""

    def read(self, address: int, size: int) -> bytes:
        """Up to `size` bytes, b"" where nothing can be read."""

    def write(self, address: int, data: bytes) -> bool:
        """Write all of `data`; False when it is refused."""


_MASK64: Final = (1 << 64) - 1
_PAGE: Final = 4096
_TRAP_FLAG: Final = 0x100
_CF, _PF, _AF, _ZF, _SF, _OF = 0x1, 0x4, 0x10, 0x40, 0x80, 0x800
_STATUS: Final = _CF | _PF | _AF | _ZF | _SF | _OF

_ADD, _OR, _AND, _SUB, _XOR, _CMP = 0, 1, 4, 5, 6, 7
_GROUP_1: Final = (_ADD, _OR, _AND, _SUB, _XOR, _CMP)


class _NotEmulated(Exception):
    pass


def emulate(code: bytes, registers: list[int], memory: Memory) -> bool:
    """Do the first instruction of `code` on `registers` (user_regs_struct order, rip at the instruction).

    False when it is not one that is emulated; nothing has been changed then.
    """
    if registers[CS] != CS_64 or registers[EFLAGS] & _TRAP_FLAG:
        return False
    try:
        _Instruction(code, registers, memory).run()
    except (_NotEmulated, IndexError):
        return False
    return True


class _Instruction:
    """One instruction while it is decoded and done; registers change last."""

    def __init__(self, code: bytes, registers: list[int], memory: Memory) -> None:
        self.code = code
        self.registers = registers
        self.memory = memory
        self.at = 0
        self.rex = 0
        self.fs = False

    def run(self) -> None:
        code = self.code
        if code[:4] == b"\xf3\x0f\x1e\xfa":  # endbr64
            self.at = 4
            return self._advance()
        start = self.at
        while code[self.at] in (0x66, 0x2E):  # both only pad nops
            self.at += 1
        padded = self.at > start
        if code[self.at] == 0x64:
            self.fs = True
            self.at += 1
        if code[self.at] & 0xF0 == 0x40:
            self.rex = code[self.at]
            self.at += 1
        opcode = code[self.at]
        self.at += 1
        if opcode == 0x90 and not self.rex & 1:
            return self._advance()
        if opcode == 0x0F and code[self.at] == 0x1F:
            self.at += 1
            self._operand()
            return self._advance()
        if padded:
            raise _NotEmulated
        if self.fs:
            return self._load_from_thread_block(opcode)
        return self._plain(opcode)

    def _plain(self, opcode: int) -> None:
        if 0x50 <= opcode <= 0x57:
            return self._push(self._get(opcode & 7 | (self.rex & 1) << 3))
        if 0x58 <= opcode <= 0x5F:
            return self._pop(opcode & 7 | (self.rex & 1) << 3)
        if opcode == 0x6A:
            return self._push(self._immediate(1) & _MASK64)
        if opcode == 0x68:
            return self._push(self._immediate(4) & _MASK64)
        if opcode in (0x89, 0x8B, 0x8D):
            return self._move(opcode)
        if opcode in (0x81, 0x83):
            operation, rm, address = self._operand()
            if operation not in _GROUP_1 or address is not None:
                raise _NotEmulated
            return self._arithmetic(operation, rm, self._get(rm), self._immediate(4 if opcode == 0x81 else 1))
        if opcode < 0x40 and opcode & 7 in (1, 3) and opcode >> 3 in _GROUP_1:
            reg, rm, address = self._operand()
            if address is not None:
                raise _NotEmulated
            target, source = (reg | self._rex_r, rm) if opcode & 2 else (rm, reg | self._rex_r)
            return self._arithmetic(opcode >> 3, target, self._get(target), self._get(source))
        if opcode < 0x40 and opcode & 7 == 5 and opcode >> 3 in _GROUP_1:
            return self._arithmetic(opcode >> 3, 0, self._get(0), self._immediate(4))
        if opcode == 0x85:
            reg, rm, address = self._operand()
            if address is not None:
                raise _NotEmulated
            return self._test(self._get(rm), self._get(reg | self._rex_r))
        if 0xB8 <= opcode <= 0xBF:
            value = self._immediate(8 if self._wide else 4)
            return self._set(opcode & 7 | (self.rex & 1) << 3, value)
        if opcode == 0xC7:
            reg, rm, address = self._operand()
            if reg or address is not None:
                raise _NotEmulated
            return self._set(rm, self._immediate(4))
        if opcode == 0xC9:
            return self._leave()
        return self._jump(opcode)

    # --- decoding

    @property
    def _wide(self) -> bool:
        return bool(self.rex & 8)

    @property
    def _rex_r(self) -> int:
        return (self.rex & 4) << 1

    def _immediate(self, size: int) -> int:
        """A sign-extended immediate operand."""
        raw = self.code[self.at : self.at + size]
        if len(raw) < size:
            raise _NotEmulated
        self.at += size
        return int.from_bytes(raw, "little", signed=True)

    def _operand(self) -> tuple[int, int, int | None]:
        """ModRM's reg field, its register operand, or its memory address less what rip adds.

        The address is given for a plain [rsp + displacement], -1 for every other memory operand.
        """
        modrm = self.code[self.at]
        self.at += 1
        mode, reg, rm = modrm >> 6, modrm >> 3 & 7, modrm & 7
        if mode == 3:
            return reg, rm | (self.rex & 1) << 3, None
        on_stack = False
        base = rm
        if rm == 4:
            sib = self.code[self.at]
            self.at += 1
            base = sib & 7
            on_stack = base == 4 and sib >> 3 & 7 == 4 and not self.rex & 3
        displacement = 0
        if mode == 1:
            displacement = self._immediate(1)
        elif mode == 2 or base == 5:
            displacement = self._immediate(4)
        address = (self.registers[RSP] + displacement) & _MASK64
        return reg, -1, address if on_stack else -1

    # --- registers and memory

    def _get(self, number: int) -> int:
        return self.registers[BY_ENCODING[number]]

    def _set(self, number: int, value: int) -> None:
        """The end of an instruction: a result in a register; a 32-bit one clears the upper half."""
        self.registers[BY_ENCODING[number]] = value & (_MASK64 if self._wide else 0xFFFFFFFF)
        self._advance()

    def _advance(self) -> None:
        self.registers[RIP] = (self.registers[RIP] + self.at) & _MASK64

    def _check_page(self, address: int, size: int) -> None:
        page = self.registers[RSP] // _PAGE
        if address // _PAGE != page or (address + size - 1) // _PAGE != page:
            raise _NotEmulated

    def _load(self, address: int, size: int) -> int:
        data = self.memory.read(address, size)
        if len(data) != size:
            raise _NotEmulated
        return int.from_bytes(data, "little")

    def _store(self, address: int, value: int, size: int) -> None:
        self._check_page(address, size)
        if not self.memory.write(address, (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")):
            raise _NotEmulated

    # --- operations

    def _push(self, value: int) -> None:
        top = self.registers[RSP] - 8
        self._store(top, value, 8)
        self.registers[RSP] = top
        self._advance()

    def _pop(self, number: int) -> None:
        top = self.registers[RSP]
        self._check_page(top, 8)
        value = self._load(top, 8)
        self.registers[RSP] = top + 8
        self.registers[BY_ENCODING[number]] = value
        self._advance()

    def _leave(self) -> None:
        frame = self.registers[RBP]
        self._check_page(frame, 8)
        self.registers[RBP] = self._load(frame, 8)
        self.registers[RSP] = frame + 8
        self._advance()

    def _move(self, opcode: int) -> None:
        reg, rm, address = self._operand()
        reg |= self._rex_r
        if opcode == 0x8D:
            if address is None or address < 0:
                raise _NotEmulated
            return self._set(reg, address)
        if address is None:
            return self._set(rm, self._get(reg)) if opcode == 0x89 else self._set(reg, self._get(rm))
        if address < 0:
            raise _NotEmulated
        size = 8 if self._wide else 4
        if opcode == 0x89:
            self._store(address, self._get(reg), size)
            return self._advance()
        self._check_page(address, size)
        return self._set(reg, self._load(address, size))

    def _load_from_thread_block(self, opcode: int) -> None:
        """Only `mov %fs:displacement, register`, as the stack protector has it."""
        code = self.code
        if opcode != 0x8B or code[self.at] & 0xC7 != 0x04 or code[self.at + 1] != 0x25:
            raise _NotEmulated
        reg = code[self.at] >> 3 & 7 | self._rex_r
        self.at += 2
        address = (self.registers[FS_BASE] + self._immediate(4)) & _MASK64
        self._set(reg, self._load(address, 8 if self._wide else 4))

    def _arithmetic(self, operation: int, target: int, left: int, right: int) -> None:
        bits = 64 if self._wide else 32
        mask, sign = (1 << bits) - 1, 1 << bits - 1
        left &= mask
        right &= mask
        flags = 0
        if operation in (_SUB, _CMP):
            result = (left - right) & mask
            flags |= _CF if left < right else 0
            flags |= _OF if (left ^ right) & (left ^ result) & sign else 0
            flags |= (left ^ right ^ result) & _AF
        elif operation == _ADD:
            result = (left + right) & mask
            flags |= _CF if result < left else 0
            flags |= _OF if ~(left ^ right) & (left ^ result) & sign else 0
            flags |= (left ^ right ^ result) & _AF
        else:
            result = left ^ right if operation == _XOR else left & right if operation == _AND else left | right
        self._set_flags(flags, result, sign)
        if operation == _CMP:
            return self._advance()
        return self._set(target, result)

    def _test(self, left: int, right: int) -> None:
        bits = 64 if self._wide else 32
        self._set_flags(0, left & right & ((1 << bits) - 1), 1 << bits - 1)
        self._advance()

    def _set_flags(self, flags: int, result: int, sign: int) -> None:
        flags |= 0 if result else _ZF
        flags |= _SF if result & sign else 0
        flags |= 0 if (result & 0xFF).bit_count() & 1 else _PF
        self.registers[EFLAGS] = self.registers[EFLAGS] & ~_STATUS | flags

    def _jump(self, opcode: int) -> None:
        if opcode == 0x0F and self.code[self.at] & 0xF0 == 0x80:
            condition = self.code[self.at] & 0xF
            self.at += 1
            distance = self._immediate(4)
        elif opcode & 0xF0 == 0x70:
            condition = opcode & 0xF
            distance = self._immediate(1)
        elif opcode in (0xE9, 0xEB):
            condition = -1
            distance = self._immediate(4 if opcode == 0xE9 else 1)
        else:
            raise _NotEmulated
        self._advance()
        if condition < 0 or _holds(condition, self.registers[EFLAGS]):
            self.registers[RIP] = (self.registers[RIP] + distance) & _MASK64


def _holds(condition: int, flags: int) -> bool:
    """Whether condition code 0-15 (SDM volume 1, appendix B) holds; an odd one is the negation of the even."""
    sign_differs = bool(flags & _SF) != bool(flags & _OF)
    holds = (
        bool(flags & _OF),
        bool(flags & _CF),
        bool(flags & _ZF),
        bool(flags & (_CF | _ZF)),
        bool(flags & _SF),
        bool(flags & _PF),
        sign_differs,
        sign_differs or bool(flags & _ZF),
    )[condition >> 1]
    return holds != bool(condition & 1)
