"""Who may come in: origins, identities, customers' secrets, rate limits."""
