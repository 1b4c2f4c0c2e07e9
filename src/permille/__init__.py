"""Permille: metering, rating and billing for LLM companies, per thousand tokens.

The way of the data: events (ingest) -> usage (store.usage) -> fees (core.fee) -> invoices (billing).
"""

__version__ = "0.1.0"
