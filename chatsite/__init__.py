"""Chatsite: a chat with the customers of websites."""

__version__ = "0.2.0"
"""The version of Chatsite: see CHANGELOG.md."""
