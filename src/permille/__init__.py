"""Permille: metering, rating and billing for LLM companies, per thousand tokens.

The way of the data: events (ingest) -> usage (events) -> fees (core.rating) -> invoices (core.invoice).
"""

__version__ = "0.1.0"
