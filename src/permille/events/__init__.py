"""The events engine: events are appended, amended, listed, and read as usage."""
