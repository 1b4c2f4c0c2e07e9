"""Rating: usage and prices make fees."""
