/* A function that uses every callee-saved register. In its epilogue, after some pops, the slots that the CFI names for
 * the popped registers lie below the stack pointer (compilers emit DW_CFA_restore or leave the rule in place): there
 * the registers hold the caller's values already. Each instruction of `many_registers` is a place to stop at.
 */

#define KEEP(variable) __asm__ volatile("" : "+r"(variable))

__attribute__((noinline)) long mix(long value)
{
	KEEP(value);
	return value * 3 + 1;
}

__attribute__((noinline)) long many_registers(long a, long b, long c, long d, long e, long f)
{
	long buffer[9];
	long *cells = buffer;

	__asm__ volatile("" : "+r"(cells) : : "memory");
	cells[0] = mix(a);
	long g = mix(b), h = mix(c), i = mix(d), j = mix(e), k = mix(f);
	KEEP(g);
	KEEP(h);
	KEEP(i);
	KEEP(j);
	KEEP(k);
	return a + b * g + c * h + d * i + e * j + f * k + mix(cells[0]);
}

/* Holds recognisable values in callee-saved registers across the call, so that a wrong recovery shows. */
__attribute__((noinline)) long known_registers(void)
{
	long p = 0x1111, q = 0x2222, r = 0x3333, s = 0x4444, t = 0x5555;

	KEEP(p);
	KEEP(q);
	KEEP(r);
	KEEP(s);
	KEEP(t);
	long result = many_registers(1, 2, 3, 4, 5, 6);
	return result + p - 0x1111 + q - 0x2222 + r - 0x3333 + s - 0x4444 + t - 0x5555;
}

int main(void)
{
	long first = known_registers();

	return first != known_registers();
}
