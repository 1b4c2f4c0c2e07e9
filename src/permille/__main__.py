"""`python -m permille` is the same as the `permille` command."""

from permille.cli import main

main()
