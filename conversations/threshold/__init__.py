"""Checks of a request before anything is read or written: origin, identity, the customer's secret, rate limits."""
