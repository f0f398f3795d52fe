"""`python -m ptap`: the same as the ptap command."""

from ptap.cli.main import main

main()
