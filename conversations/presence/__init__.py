"""What is only true now: it is kept in the cache for a while and in no table."""
