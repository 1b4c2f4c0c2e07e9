"""What heavy reads cost single events, with a process of their own and without."""
