"""Who is online, and which page a customer is on: kept in the cache for a while, never in a table."""
