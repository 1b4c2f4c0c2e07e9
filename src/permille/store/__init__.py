"""SQL and nothing else: reads return core values, writes take them. JSON is exact for all callers."""

from permille.database.connections import use_exact_json

use_exact_json()
