"""What is true only now: kept in the cache for a while, and in no table."""
