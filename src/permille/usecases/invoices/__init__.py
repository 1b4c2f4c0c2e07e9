"""Invoices: billed, drafted, finalized, corrected."""
