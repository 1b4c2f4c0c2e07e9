"""SQL and nothing else: reads return core values, writes take them. JSON is exact for whoever uses it."""

from permille.store.db import use_exact_json

use_exact_json()
