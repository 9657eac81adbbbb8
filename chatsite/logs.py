"""Formatting of log records."""

import logging
import re

UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)


class WithoutSecrets(logging.Formatter):
    """Masks UUIDs: a conversation's UUID is its customer's secret, and it is in URLs of the API."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record, with UUIDs masked in its message and traceback."""
        return UUID.sub("[uuid]", super().format(record))
