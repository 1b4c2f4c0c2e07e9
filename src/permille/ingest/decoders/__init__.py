"""Wire formats of events, one file each: what a body says, as drafts, and what its sender is answered."""
