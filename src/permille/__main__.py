"""`python -m permille` is the same as the `permille` command."""

from permille.cli.main import main

main()
