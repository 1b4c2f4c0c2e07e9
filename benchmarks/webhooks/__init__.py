"""Webhooks of real invoices, rendered, signed and delivered to receivers on this machine."""
