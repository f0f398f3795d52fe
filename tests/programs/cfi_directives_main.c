/* Calls the frames of cfi_directives.S, with recognisable values in its callee-saved registers. */

#include <stdio.h>
#include <stdlib.h>

int cfa_in_rbx(void);
int cfa_by_expression(void);
int registers_by_expression(void);
int register_in_register(void);
int value_offset(void);
int remembered_state(int work);
int long_body(void);
int frame_pointer(void);
int switched_stack(char *top);
int declared_outermost(void);
int without_cfi(void);
int assembly_leaf(int which);

__attribute__((noinline)) int assembly_leaf(int which)
{
	__asm__ volatile("" : "+r"(which));
	return which;
}

#define KEEP(variable) __asm__ volatile("" : "+r"(variable))

__attribute__((noinline)) int call_assembly(char *stack, size_t size)
{
	long a = 0x1111, b = 0x2222, c = 0x3333, d = 0x4444, e = 0x5555;

	KEEP(a);
	KEEP(b);
	KEEP(c);
	KEEP(d);
	KEEP(e);
	int sum = cfa_in_rbx() + cfa_by_expression() + registers_by_expression() + register_in_register() +
		  value_offset() + remembered_state(0) + remembered_state(1) + long_body() + frame_pointer() +
		  switched_stack(stack + size) + declared_outermost() + without_cfi();
	KEEP(a);
	KEEP(b);
	KEEP(c);
	KEEP(d);
	KEEP(e);
	return sum + (a != 0x1111 || b != 0x2222 || c != 0x3333 || d != 0x4444 || e != 0x5555) * 1000;
}

int main(void)
{
	static char low_stack[32768] __attribute__((aligned(16)));
	char high_stack[32768] __attribute__((aligned(16)));
	int expected = 66 + 11;

	int sum = call_assembly(low_stack, sizeof(low_stack)); /* the CFA grows */
	sum += call_assembly(high_stack, sizeof(high_stack)); /* the CFA falls at the switch */
	return sum != 2 * expected;
}
