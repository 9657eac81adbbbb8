"""Our backend for a replica of PostgreSQL."""
