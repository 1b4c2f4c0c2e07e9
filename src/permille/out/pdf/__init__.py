"""Invoice documents."""
