"""The events engine on PostgreSQL: events, series, and cells of usage beside them."""
