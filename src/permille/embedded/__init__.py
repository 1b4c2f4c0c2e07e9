"""The database server that Permille runs itself, and the processes around it."""
