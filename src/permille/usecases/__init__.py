"""Use cases: load, decide in core, save, in one transaction each."""
