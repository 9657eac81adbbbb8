"""What may stand in a log."""

import logging
import re

UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)


class WithoutSecrets(logging.Formatter):
    """Masks uuids: a conversation's uuid is its customer's secret, and the API has it in its addresses."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole text of a record, its traceback too, masked."""
        return UUID.sub("[uuid]", super().format(record))
