"""Every write: one verb per file, keyword-only, one transaction."""

from conversations.actions.close import close
from conversations.actions.mark_read import mark_read
from conversations.actions.post_message import AlreadySent, post_message
from conversations.actions.reopen import reopen
from conversations.actions.take import TakenBySomebodyElse, take

__all__ = ["AlreadySent", "TakenBySomebodyElse", "close", "mark_read", "post_message", "reopen", "take"]
