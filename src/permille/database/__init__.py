"""PostgreSQL for store and events alike: connections, bulk parameters, locks, migrations."""
