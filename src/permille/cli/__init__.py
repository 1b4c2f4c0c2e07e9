"""The command line: `permille up`, `demo`, `doctor` and the rest."""
