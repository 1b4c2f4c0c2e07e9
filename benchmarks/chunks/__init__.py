"""What the events would cost PostgreSQL as chunks and sorted blocks instead of rows."""
