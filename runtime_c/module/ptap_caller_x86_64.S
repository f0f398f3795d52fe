/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a tracepoint calls. No code of C has run since, so the caller's registers are still there: those that a called
 * function preserves, the stack pointer as it is after the return, and where the caller goes on.
 */

#include <linux/linkage.h>
#include <asm/ptrace-abi.h>
#include <asm/segment.h>
#if __has_include(<linux/cfi_types.h>)
#include <linux/cfi_types.h>
#endif

#define REGISTERS 168 /* sizeof(struct pt_regs) */
#define RETURN_ADDRESS REGISTERS

/* The start of a function that is called through a pointer; older kernels have one start for all. */
#ifdef SYM_TYPED_FUNC_START
#define START SYM_TYPED_FUNC_START
#else
#define START SYM_FUNC_START
#endif

	.text

/* void ptap_tracepoint_entered(struct ptap_event *event, ...) */
START(ptap_tracepoint_entered)
	subq	$REGISTERS, %rsp
	movq	%rbx, RBX(%rsp)
	movq	%rbp, RBP(%rsp)
	movq	%r12, R12(%rsp)
	movq	%r13, R13(%rsp)
	movq	%r14, R14(%rsp)
	movq	%r15, R15(%rsp)
	movq	RETURN_ADDRESS(%rsp), %rax
	movq	%rax, RIP(%rsp)
	leaq	RETURN_ADDRESS+8(%rsp), %rax
	movq	%rax, RSP(%rsp)
	movq	$__KERNEL_CS, CS(%rsp)
	movq	%rsp, %rsi
	call	ptap_tracepoint_hit
	/* All of it is as it was, which objtool cannot know. */
	movq	R15(%rsp), %r15
	movq	R14(%rsp), %r14
	movq	R13(%rsp), %r13
	movq	R12(%rsp), %r12
	movq	RBP(%rsp), %rbp
	movq	RBX(%rsp), %rbx
	addq	$REGISTERS, %rsp
	RET
SYM_FUNC_END(ptap_tracepoint_entered)
