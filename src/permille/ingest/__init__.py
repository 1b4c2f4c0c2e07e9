"""The hot path: decode, validate, intern, deduplicate, commit in groups."""
