"""`--when`: which stacks are wanted. The language, its meaning on a trace, and its program for the kernel module."""
