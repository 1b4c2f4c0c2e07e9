"""Metering: events, what they are worth, and how their values are aggregated."""
