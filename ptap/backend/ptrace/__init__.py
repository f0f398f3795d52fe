"""The capture back end that needs no privilege: breakpoints and single steps by ptrace(2).

Works wherever a debugger works: in default containers, and for any user on processes of one's own. Every hit
stops the thread that makes it, so that the walk can read all of its memory.
"""
