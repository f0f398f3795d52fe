"""Call frame sections read by the book: an obvious, slow interpreter of DWARF 5 §6.4 and LSB Core §10.6.

It shares no code with the builder of tables. Where the standards leave something open or unlimited, it takes the
builder's documented choice, and the comment says so: what an entry may hold at most; and, as gcc's unwinder and readelf
have it, that restore_state gives the CFA back too, and that a register or an offset may be given alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

UNDEFINED, SAME, AT_CFA, CFA_PLUS, IN_REGISTER, EXPRESSION, VAL_EXPRESSION = (
    "undefined", "same", "at cfa", "cfa plus", "register", "expression", "val expression",
)  # fmt: skip

_LEB_LIMIT = 1 << 55
_DEEPEST = 32
_LARGEST_RANGE = 1 << 40
_LARGEST_ALIGNMENT = 1 << 16


class DamagedEntryError(Exception):
    """An entry that cannot be understood."""


@dataclass(frozen=True)
class Setting:
    """What the section belongs to."""

    is_eh: bool
    address: int
    address_size: int
    text_base: int = 0
    data_base: int = 0
    registers: int = 17
    return_column: int = 16
    signs_return: bool = False


Cfa = tuple[int, int] | bytes | None
"""(register, offset), an expression, or nothing."""
RegisterRule = tuple[str, int | bytes]


@dataclass(frozen=True)
class State:
    """A row of the table of §6.4.1."""

    cfa: Cfa = None
    offset: int = 0
    """That the CFA has or had: what def_cfa_register adds to, even where an expression came in between."""
    rules: dict[int, RegisterRule] = field(default_factory=dict)
    """Registers without a rule are not in it."""
    signed: bool = False
    """RA_SIGN_STATE of aarch64."""


@dataclass
class Cie:
    """A common information entry."""

    code_alignment: int = 1
    data_alignment: int = 1
    return_column: int = 0
    encoding: int = 0
    signal: bool = False
    key_b: bool = False
    has_augmentation: bool = False
    initial: State = State()


@dataclass
class Fde:
    """A frame description entry with the rows that it gives."""

    offset: int
    cie: Cie
    start: int
    end: int
    rows: list[tuple[int, State]]
    """(address, what holds from there to the next row, or to the end)."""


@dataclass
class Reading:
    """A whole section."""

    fdes: list[Fde]
    damaged: list[int]
    """Offsets of the FDEs that cannot be understood, and of an entry that runs behind the section."""


class _Bytes:
    """A place in an entry, which ends at `end`."""

    def __init__(self, data: bytes, at: int, end: int, setting: Setting) -> None:
        self.data, self.at, self.end, self.setting = data, at, end, setting

    def take(self, size: int) -> bytes:
        if size > self.end - self.at:
            raise DamagedEntryError("cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def leb(self, signed: bool) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        if signed and byte & 64:
            value -= 1 << shift
        # The builder's limit.
        if not (-_LEB_LIMIT <= value < _LEB_LIMIT if signed else value <= _LEB_LIMIT):
            raise DamagedEntryError("a number beyond any real one")
        return value

    def uleb(self) -> int:
        return self.leb(False)

    def sleb(self) -> int:
        return self.leb(True)

    def block(self) -> bytes:
        return self.take(self.uleb())

    def form(self, form: int) -> int:
        size = self.setting.address_size
        if form in (1, 9):
            return self.leb(form == 9)
        sizes = {0: size, 8: size, 2: 2, 10: 2, 3: 4, 11: 4, 4: 8, 12: 8}
        if form not in sizes:
            raise DamagedEntryError(f"pointer form {form}")
        return self.number(sizes[form], form >= 8)

    def pointer(self, encoding: int) -> int:
        """An address, as a signed number of 64 bits or an unsigned one of 32."""
        setting = self.setting
        if encoding & 0x80:
            raise DamagedEntryError("indirect pointer")
        if encoding & 0x70 == 0x50:
            self.take(-(setting.address + self.at) % setting.address_size)
            encoding = 0
        bases = {0: 0, 0x10: setting.address + self.at, 0x20: setting.text_base, 0x30: setting.data_base}
        value = self.form(encoding & 15)
        if encoding & 0x70 not in bases:
            raise DamagedEntryError(f"pointer application {encoding & 0x70:#x}")
        value += bases[encoding & 0x70]
        if setting.address_size == 4 and encoding & 0x70:
            return value & 0xFFFFFFFF
        return signed64(value)


def signed64(value: int) -> int:
    """The number's low 64 bits as a signed number."""
    return (value + (1 << 63) & (1 << 64) - 1) - (1 << 63)


def read_section(data: bytes, setting: Setting) -> Reading:
    """All FDEs of a section, those of discarded code too."""
    cies: dict[int, Cie | None] = {}
    found = Reading([], [])
    every = list(entries(data, setting.is_eh))
    for offset, kind, body, end, _ in every:
        if kind == "cie":
            try:
                cies[offset] = _read_cie(_Bytes(data, body, end, setting))
            except DamagedEntryError:
                cies[offset] = None
    for offset, kind, body, end, cie_offset in every:
        if kind == "cut":
            found.damaged.append(offset)
        elif kind == "fde":
            cie = cies.get(cie_offset)
            try:
                if cie is None:
                    raise DamagedEntryError("no sound CIE")
                found.fdes.append(_read_fde(_Bytes(data, body, end, setting), offset, cie))
            except DamagedEntryError:
                found.damaged.append(offset)
    return found


def read_fde(data: bytes, offset: int, setting: Setting) -> Fde:
    """The one FDE at `offset` of a section. Raises DamagedEntryError."""
    _, kind, body, end, cie_offset = next(entries(data, setting.is_eh, offset))
    if kind != "fde":
        raise DamagedEntryError(f"no FDE at {offset:#x}")
    _, kind, cie_body, cie_end, _ = next(entries(data, setting.is_eh, cie_offset))
    if kind != "cie":
        raise DamagedEntryError(f"no CIE at {cie_offset:#x}")
    cie = _read_cie(_Bytes(data, cie_body, cie_end, setting))
    return _read_fde(_Bytes(data, body, end, setting), offset, cie)


def entries(data: bytes, is_eh: bool, begin: int = 0) -> Iterator[tuple[int, str, int, int, int]]:
    """(offset, "cie", "fde" or "cut", behind the id, end, the CIE's offset) of each entry from `begin` on."""
    at = begin
    while at < len(data):
        offset = at
        length = int.from_bytes(data[at : at + 4], "little")
        at += 4
        offset_size = 4
        if at > len(data):
            yield offset, "cut", at, at, 0
            return
        if length == 0:
            continue  # a terminator: the builder goes on behind it, as linkers leave some between parts
        if length == 0xFFFFFFFF:
            length = int.from_bytes(data[at : at + 8], "little")
            at += 8
            offset_size = 8
        # The id of .eh_frame has four bytes in either format.
        id_size = 4 if is_eh else offset_size
        if at + length > len(data) or length < id_size:
            yield offset, "cut", at, at, 0
            return
        identity = int.from_bytes(data[at : at + id_size], "little")
        if identity == (0 if is_eh else (1 << 8 * id_size) - 1):
            yield offset, "cie", at + id_size, at + length, offset
        else:
            yield offset, "fde", at + id_size, at + length, at - identity if is_eh else identity
        at += length


def _read_cie(source: _Bytes) -> Cie:
    version = source.number(1)
    if version not in (1, 3, 4):
        raise DamagedEntryError(f"version {version}")
    augmentation = bytearray()
    while (letter := source.number(1)) != 0:
        augmentation.append(letter)
    cie = Cie()
    if version == 4 and source.take(2) != bytes([source.setting.address_size, 0]):
        raise DamagedEntryError("another address size, or segments")
    cie.code_alignment = source.uleb()
    cie.data_alignment = source.sleb()
    if cie.code_alignment > _LARGEST_ALIGNMENT or abs(cie.data_alignment) > _LARGEST_ALIGNMENT:
        raise DamagedEntryError("an alignment beyond any real one")
    cie.return_column = source.number(1) if version == 1 else source.uleb()
    if cie.return_column >= source.setting.registers and cie.return_column != source.setting.return_column:
        raise DamagedEntryError("return column")
    if augmentation and augmentation[0] != ord("z"):
        raise DamagedEntryError("the size of its augmentation is not known")
    if augmentation:
        size = source.uleb()
        inside = _Bytes(source.data, source.at, source.at + size, source.setting)
        source.take(size)
        _read_augmentation(cie, bytes(augmentation[1:]).decode("latin-1"), inside)
    _run(source, cie, 0, 1 << 64)
    return cie


def _read_augmentation(cie: Cie, letters: str, source: _Bytes) -> None:
    cie.has_augmentation = True
    for letter in letters:
        if letter == "R":
            cie.encoding = source.number(1)
        elif letter == "L":
            source.number(1)
        elif letter == "P":
            encoding = source.number(1) & 0x7F
            if encoding != 0x7F:  # its size matters, what it is relative to does not
                source.pointer(0x50 if encoding & 0x70 == 0x50 else encoding & 15)
        elif letter == "S":
            cie.signal = True
        elif letter == "B":
            cie.key_b = True
        elif letter != "G":
            raise DamagedEntryError(f"augmentation {letter!r}")


def _read_fde(source: _Bytes, offset: int, cie: Cie) -> Fde:
    start = source.pointer(cie.encoding)
    length = source.form(cie.encoding & 15)
    if source.setting.address_size == 8:
        length = signed64(length)
    if cie.has_augmentation:
        source.block()
    end = start + length
    if not 0 < length <= _LARGEST_RANGE or end >= 1 << 63:
        raise DamagedEntryError("an empty or impossible range")
    return Fde(offset, cie, start, end, _run(source, cie, start, end))


def _run(source: _Bytes, cie: Cie, location: int, end: int) -> list[tuple[int, State]]:
    """Run a CIE's program, which fills `cie.initial`, or an FDE's, which gives rows."""
    is_cie = end == 1 << 64
    state = cie.initial
    remembered: list[State] = []
    rows: list[tuple[int, State]] = []
    while source.at < source.end:
        opcode = source.number(1)
        moved = location
        if opcode >> 6 == 1:
            moved = location + (opcode & 63) * cie.code_alignment
        elif opcode == 0x01:
            moved = source.pointer(cie.encoding)
        elif opcode in (0x02, 0x03, 0x04):
            moved = location + source.number(1 << opcode - 2) * cie.code_alignment
        elif opcode == 0x0A:
            if len(remembered) == _DEEPEST:
                raise DamagedEntryError("remember_state nests too deeply")
            remembered.append(state)
        elif opcode == 0x0B:
            if not remembered:
                raise DamagedEntryError("nothing to restore")
            state = remembered.pop()
        else:
            state = _after(state, opcode, source, cie)
        if is_cie and moved:
            raise DamagedEntryError("a location in a CIE")
        if moved < location:
            raise DamagedEntryError("the location goes backward")
        if moved >= end:
            break
        if moved > location:
            rows.append((location, state))
            location = moved
    if is_cie:
        cie.initial = state
    rows.append((location, state))
    return rows


def _after(state: State, opcode: int, source: _Bytes, cie: Cie) -> State:
    """The state behind an instruction that changes the rules."""
    high, low = opcode >> 6, opcode & 63
    factor = cie.data_alignment
    if opcode == 0x00:
        return state
    if opcode == 0x2E:  # GNU_args_size says nothing of registers
        source.uleb()
        return state
    if opcode in (0x2C, 0x2D) and source.setting.signs_return:
        return replace(state, signed=not state.signed)
    if 0x0C <= opcode <= 0x0F or opcode in (0x12, 0x13):
        return _with_cfa(state, opcode, source, factor)
    if high == 2:
        return _with(state, low, (AT_CFA, source.uleb() * factor))
    if high == 3 or opcode == 0x06:
        register = low if high == 3 else source.uleb()
        return _with(state, register, cie.initial.rules.get(register))
    register = source.uleb() if 0x05 <= opcode <= 0x16 or opcode == 0x2F else 0
    if opcode in (0x05, 0x2F):
        return _with(state, register, (AT_CFA, source.uleb() * (factor if opcode == 0x05 else -factor)))
    if opcode == 0x07:
        return _with(state, register, (UNDEFINED, 0))
    if opcode == 0x08:
        return _with(state, register, (SAME, 0))
    if opcode == 0x09:
        return _with(state, register, (IN_REGISTER, source.uleb()))
    if opcode == 0x10:
        return _with(state, register, (EXPRESSION, source.block()))
    if opcode == 0x11:
        return _with(state, register, (AT_CFA, source.sleb() * factor))
    if opcode == 0x14:
        return _with(state, register, (CFA_PLUS, source.uleb() * factor))
    if opcode == 0x15:
        return _with(state, register, (CFA_PLUS, source.sleb() * factor))
    if opcode == 0x16:
        return _with(state, register, (VAL_EXPRESSION, source.block()))
    raise DamagedEntryError(f"instruction {opcode:#x}")


def _with_cfa(state: State, opcode: int, source: _Bytes, factor: int) -> State:
    if opcode == 0x0F:
        return replace(state, cfa=source.block())
    register = source.uleb() if opcode in (0x0C, 0x0D, 0x12) else None
    offset = state.offset
    if opcode in (0x0C, 0x0E):
        offset = source.uleb()
    elif opcode in (0x12, 0x13):
        offset = source.sleb() * factor
    cfa: Cfa = state.cfa
    if register is not None:
        cfa = register, offset
    elif isinstance(cfa, tuple):
        cfa = cfa[0], offset
    return replace(state, cfa=cfa, offset=offset)


def _with(state: State, register: int, rule: RegisterRule | None) -> State:
    rules = {number: each for number, each in state.rules.items() if number != register}
    if rule is not None:
        rules[register] = rule
    return replace(state, rules=rules)
