"""What the keys of `ptap top` do, for those who ask."""

HELP = """\
 f  s  t      functions, stacks, threads       Tab   the next of them
 Enter        of a function: the stacks it is in
              of a stack: its frames, shown or hidden
              of a thread: only its samples
 Esc          take the last of these back

 w            the last seconds, or since the start
 o            sort functions by self (in the function itself)
              or by total (in it and what it calls)
 /            search; n and N go to the next and the one before
 &            only lines with some words in them
 p  Space     stand still, while samples are counted on
 r            forget all samples, and begin anew
 ↑ ↓ PgUp PgDn Home End   choose a line (also k j g G)
 q  Ctrl-C    leave; the functions since the start are printed

 k (or yellow) is the kernel, u a program. Shares are of the samples of the
 table's time and thread. CPU is the share of one processor.
 [cut short: …] stands where the outer frames of a stack are not known.
"""
