"""Every change of conversations, messages and files: one verb per file, keyword-only arguments."""

from conversations.actions.assign import assign
from conversations.actions.clean import CLEANING
from conversations.actions.close import UnseenMessage, close
from conversations.actions.correct import correct
from conversations.actions.create_label import LabelRefused, create_label
from conversations.actions.identify import identify
from conversations.actions.label import label
from conversations.actions.mark_read import mark_mentions_read, mark_read
from conversations.actions.mark_seen import mark_seen
from conversations.actions.post_message import AlreadySent, UnseenAnswer, post_message
from conversations.actions.prioritize import prioritize
from conversations.actions.renew_secret import renew_secret
from conversations.actions.reopen import reopen
from conversations.actions.snooze import snooze
from conversations.actions.take import TakenBySomebodyElse, take
from conversations.actions.take_back import take_back
from conversations.actions.write_note import write_note

__all__ = [
    "CLEANING",
    "AlreadySent",
    "LabelRefused",
    "TakenBySomebodyElse",
    "UnseenAnswer",
    "UnseenMessage",
    "assign",
    "close",
    "correct",
    "create_label",
    "identify",
    "label",
    "mark_mentions_read",
    "mark_read",
    "mark_seen",
    "post_message",
    "prioritize",
    "renew_secret",
    "reopen",
    "snooze",
    "take",
    "take_back",
    "write_note",
]
