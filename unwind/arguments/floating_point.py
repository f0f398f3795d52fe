"""Binary floating-point formats of x86-64 in memory: IEEE 754 half, single, double and quad, and x87
extended.

A bit pattern is decoded to a Python number that holds it exactly: a `float` where double precision does, a
`Fraction` for the wider formats. Encoding rounds to nearest, ties to even (IEEE 754 §4.3.1). Formatting
follows gdb: %g with as many digits as tell every two values of the format apart.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from unwind.arguments.unavailable import unsupported

Number: TypeAlias = "float | Fraction"


@dataclass(frozen=True, slots=True)
class Format:
    """One format: bits of the exponent, of the stored fraction, and whether the leading one is stored."""

    exponent: int
    fraction: int
    explicit_one: bool = False

    @property
    def bias(self) -> int:
        """Exponent bias."""
        return (1 << (self.exponent - 1)) - 1

    @property
    def precision(self) -> int:
        """Significant bits."""
        return self.fraction + (0 if self.explicit_one else 1)

    @property
    def digits(self) -> int:
        """Decimal digits that tell all values apart: ceil(1 + precision * log10(2))."""
        return math.ceil(1 + self.precision * math.log10(2))


_X87 = Format(15, 64, explicit_one=True)
_FORMATS = {2: Format(5, 10), 4: Format(8, 23), 8: Format(11, 52), 10: _X87, 12: _X87, 16: _X87}


def format_of(size: int) -> Format:
    """The format of a DW_ATE_float type of `size` bytes; 16 is long double, which is x87 on x86-64 Linux.

    Raises Unavailable. (A __float128 has the same size and encoding: `QUAD` must be asked for by its name.)
    """
    if size not in _FORMATS:
        raise unsupported(f"a floating-point type of {size} bytes")
    return _FORMATS[size]


QUAD = Format(15, 112)


def sign_bit(size: int) -> int:
    """Number of the bit that holds the sign."""
    layout = format_of(size)
    return layout.exponent + layout.fraction


def decode(bits: int, size: int, layout: Format | None = None) -> Number:
    """The number that a bit pattern of a `size`-byte float stands for. Raises Unavailable."""
    layout = layout or format_of(size)
    if layout.precision <= 53 and size == 8:
        return float(struct.unpack("<d", bits.to_bytes(8, "little"))[0])
    negative, exponent, fraction = _split(bits, layout)
    if exponent == (1 << layout.exponent) - 1:
        magnitude = fraction & ((1 << (layout.fraction - (1 if layout.explicit_one else 0))) - 1)
        return math.nan if magnitude else (-math.inf if negative else math.inf)
    if not layout.explicit_one:
        fraction |= (1 << layout.fraction) if exponent else 0
    scale = max(exponent, 1) - layout.bias - (layout.precision - 1)
    exact = Fraction(fraction) * (Fraction(2) ** scale)
    exact = -exact if negative else exact
    if layout.precision <= 53:
        return -0.0 if negative and not exact else float(exact)
    # A Fraction has no negative zero.
    return -0.0 if negative and not exact else exact


def _split(bits: int, layout: Format) -> tuple[bool, int, int]:
    fraction = bits & ((1 << layout.fraction) - 1)
    exponent = bits >> layout.fraction & ((1 << layout.exponent) - 1)
    return bool(bits >> (layout.fraction + layout.exponent) & 1), exponent, fraction


def encode(number: Number, size: int) -> int:
    """The bit pattern of `number`, rounded to nearest even; overflow gives infinity. Raises Unavailable."""
    layout = format_of(size)
    top = (1 << layout.exponent) - 1
    one = 1 << (layout.precision - 1)
    if isinstance(number, float) and (not math.isfinite(number) or number == 0):
        negative = math.copysign(1.0, number) < 0
        if number == 0:
            return _pack(negative, 0, 0, layout)
        special = one if layout.explicit_one else 0
        if math.isnan(number):
            special |= 1 << (layout.precision - 2)
        return _pack(negative, top, special, layout)
    exact = Fraction(number)
    negative, exact = exact < 0, abs(exact)
    if not exact:
        return 0
    # The exponent of the leading bit: log2 from the bit lengths is right or one too large.
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    if exact < Fraction(2) ** exponent:
        exponent -= 1
    exponent = max(exponent, 1 - layout.bias)
    # round() of a Fraction rounds half to even.
    significand = round(exact / Fraction(2) ** (exponent - (layout.precision - 1)))
    if significand >= one << 1:
        significand >>= 1
        exponent += 1
    if exponent > layout.bias:
        return _pack(negative, top, one if layout.explicit_one else 0, layout)
    biased = exponent + layout.bias if significand >= one else 0
    return _pack(negative, biased, significand if layout.explicit_one else significand & (one - 1), layout)


def _pack(negative: bool, exponent: int, fraction: int, layout: Format) -> int:
    return (int(negative) << layout.exponent | exponent) << layout.fraction | fraction


def formatted(bits: int, size: int, layout: Format | None = None) -> str:
    """The value as gdb prints it: `1.5`, `1e+300`, `inf`, `-nan(0x8000000000000)`. Raises Unavailable."""
    layout = layout or format_of(size)
    negative, exponent, fraction = _split(bits, layout)
    if layout.explicit_one and exponent and not fraction >> (layout.fraction - 1):
        # x87 arithmetic never makes these ("unnormal", Intel SDM volume 1, table 8-3); there is no number.
        return "<invalid float value>"
    number = decode(bits, size, layout)
    if isinstance(number, float):
        if math.isnan(number):
            return f"{'-' if negative else ''}nan({fraction:#x})"
        return f"{number:.{layout.digits}g}"
    return _general(number, layout.digits)


def _general(number: Fraction, digits: int) -> str:
    """C's %.<digits>g of an exact number, beyond double precision (C17 7.21.6.1)."""
    from decimal import Context, Decimal

    if not number:
        return "0"
    # Both integers are exact, so the division rounds once.
    context = Context(prec=digits, Emin=-100_000, Emax=100_000)
    rounded = context.divide(Decimal(number.numerator), Decimal(number.denominator))
    exponent = rounded.adjusted()
    digit_text = "".join(map(str, rounded.as_tuple().digits)).ljust(digits, "0")
    sign = "-" if number < 0 else ""
    if exponent < -4 or exponent >= digits:
        mantissa = (digit_text[0] + "." + digit_text[1:]).rstrip("0").rstrip(".")
        return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        text = "0." + "0" * (-exponent - 1) + digit_text
    else:
        text = digit_text[: exponent + 1] + "." + digit_text[exponent + 1 :]
    return sign + text.rstrip("0").rstrip(".")
