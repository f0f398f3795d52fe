/* Frames that compilers seldom or never make, each with the CFI that tells the truth about it. Every function calls
 * assembly_leaf(its own number), and returns what that returns plus one. Called from cfi_directives_main.c.
 */

	.text

	.macro begin name
	.globl \name
	.type \name, @function
	.p2align 4
\name:
	.cfi_startproc
	.endm

	.macro finish name
	.cfi_endproc
	.size \name, . - \name
	.endm

/* The CFA is found from rbx, not from rsp or rbp. */
begin cfa_in_rbx
	pushq %rbx
	.cfi_adjust_cfa_offset 8
	.cfi_offset %rbx, -16
	movq %rsp, %rbx
	.cfi_def_cfa_register %rbx
	subq $160, %rsp
	movl $1, %edi
	call assembly_leaf
	incl %eax
	movq %rbx, %rsp
	.cfi_def_cfa_register %rsp
	popq %rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbx
	ret
finish cfa_in_rbx

/* DW_CFA_def_cfa_expression (0x0f): CFA = *(rsp + 8), where the incoming rsp was stored. */
begin cfa_by_expression
	leaq 8(%rsp), %rax
	subq $56, %rsp
	.cfi_adjust_cfa_offset 56
	movq %rax, 8(%rsp)
	/* length 3: DW_OP_breg7 8, DW_OP_deref */
	.cfi_escape 0x0f, 0x03, 0x77, 0x08, 0x06
	movl $2, %edi
	call assembly_leaf
	incl %eax
	addq $56, %rsp
	.cfi_def_cfa %rsp, 8
	ret
finish cfa_by_expression

/* DW_CFA_expression (0x10): r12 is saved at the address CFA - 40, computed as (CFA - 16) - 24.
 * DW_CFA_val_expression (0x16): the caller's r13 is the callee's r13 minus 100.
 */
begin registers_by_expression
	subq $56, %rsp
	.cfi_adjust_cfa_offset 56
	movq %r12, 24(%rsp)
	/* register 12, length 5: DW_OP_lit16, DW_OP_minus (the CFA is pushed first), DW_OP_const1s -24, DW_OP_plus */
	.cfi_escape 0x10, 0x0c, 0x05, 0x40, 0x1c, 0x09, 0xe8, 0x22
	movq $-1, %r12
	addq $100, %r13
	/* register 13, length 4: DW_OP_drop, DW_OP_breg13 -100 */
	.cfi_escape 0x16, 0x0d, 0x04, 0x13, 0x7d, 0x9c, 0x7f
	movl $3, %edi
	call assembly_leaf
	incl %eax
	subq $100, %r13
	.cfi_same_value %r13
	movq 24(%rsp), %r12
	.cfi_restore %r12
	addq $56, %rsp
	.cfi_adjust_cfa_offset -56
	ret
finish registers_by_expression

/* DW_CFA_register: the caller's rbx lives in r14 while this runs; DW_CFA_offset holds the caller's r14. */
begin register_in_register
	pushq %r14
	.cfi_adjust_cfa_offset 8
	.cfi_offset %r14, -16
	movq %rbx, %r14
	.cfi_register %rbx, %r14
	movq $-1, %rbx
	movl $4, %edi
	call assembly_leaf
	incl %eax
	movq %r14, %rbx
	.cfi_restore %rbx
	popq %r14
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r14
	ret
finish register_in_register

/* DW_CFA_val_offset_sf: the caller's r15 is CFA - 8, a value and not a place. The caller passes it so. */
begin value_offset
	pushq %r15
	.cfi_adjust_cfa_offset 8
	.cfi_offset %r15, -16
	leaq 8(%rsp), %r15
	call value_offset_inner
	popq %r15
	.cfi_adjust_cfa_offset -8
	.cfi_restore %r15
	ret
finish value_offset

begin value_offset_inner
	subq $8, %rsp
	.cfi_adjust_cfa_offset 8
	movq $-1, %r15
	/* The caller's r15 is the address of its return address: this CFA + 8. The data alignment factor is -8:
	   DW_CFA_val_offset_sf (0x15), register 15, -1. clang's assembler has no .cfi_val_offset. */
	.cfi_escape 0x15, 0x0f, 0x7f
	movl $5, %edi
	call assembly_leaf
	incl %eax
	leaq 24(%rsp), %r15
	.cfi_same_value %r15
	addq $8, %rsp
	.cfi_adjust_cfa_offset -8
	ret
finish value_offset_inner

/* DW_CFA_remember_state and DW_CFA_restore_state around an early return in the middle. */
begin remembered_state
	pushq %rbp
	.cfi_adjust_cfa_offset 8
	.cfi_offset %rbp, -16
	subq $32, %rsp
	.cfi_adjust_cfa_offset 32
	testl %edi, %edi
	jne 1f
	.cfi_remember_state
	addq $32, %rsp
	.cfi_adjust_cfa_offset -32
	popq %rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbp
	xorl %eax, %eax
	ret
	.cfi_restore_state
1:
	xorl %ebp, %ebp
	movl $6, %edi
	call assembly_leaf
	incl %eax
	addq $32, %rsp
	.cfi_adjust_cfa_offset -32
	popq %rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbp
	ret
finish remembered_state

/* DW_CFA_GNU_args_size (0x2e), to be skipped, and DW_CFA_advance_loc2 over a long body. */
begin long_body
	pushq %rbx
	.cfi_adjust_cfa_offset 8
	.cfi_offset %rbx, -16
	.cfi_escape 0x2e, 0x10
	jmp 1f
	.skip 70000, 0x90
1:
	movl $7, %edi
	call assembly_leaf
	incl %eax
	popq %rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore %rbx
	ret
finish long_body

/* The frame is released by `leave`, with rbp as the frame pointer, as compilers do for alloca. */
begin frame_pointer
	pushq %rbp
	.cfi_def_cfa_offset 16
	.cfi_offset %rbp, -16
	movq %rsp, %rbp
	.cfi_def_cfa_register %rbp
	subq $256, %rsp
	movl $8, %edi
	call assembly_leaf
	incl %eax
	leave
	.cfi_def_cfa %rsp, 8
	.cfi_restore %rbp
	ret
finish frame_pointer

/* The stack is switched to a heap block: the CFA is read from a slot of the new stack. rdi is the new stack's top. */
begin switched_stack
	movq %rsp, -16(%rdi)
	leaq -16(%rdi), %rsp
	/* CFA = *(rsp) + 8; length 5: DW_OP_breg7 0, DW_OP_deref, DW_OP_plus_uconst 8 */
	.cfi_escape 0x0f, 0x05, 0x77, 0x00, 0x06, 0x23, 0x08
	movl $9, %edi
	call assembly_leaf
	incl %eax
	movq (%rsp), %rsp
	.cfi_def_cfa %rsp, 8
	ret
finish switched_stack

/* DW_CFA_undefined of the return address: the walk ends here, as in a thread's first function (the caller exists). */
begin declared_outermost
	.cfi_undefined %rip
	subq $8, %rsp
	.cfi_adjust_cfa_offset 8
	movl $10, %edi
	call assembly_leaf
	incl %eax
	addq $8, %rsp
	.cfi_adjust_cfa_offset -8
	ret
finish declared_outermost

/* No CFI at all, and no frame pointer: nothing but a guess goes beyond this frame. */
	.globl without_cfi
	.type without_cfi, @function
	.p2align 4
without_cfi:
	subq $72, %rsp
	movl $11, %edi
	call assembly_leaf
	incl %eax
	addq $72, %rsp
	ret
	.size without_cfi, . - without_cfi

	.section .note.GNU-stack, "", @progbits
