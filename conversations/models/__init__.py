"""The data: one model per file. Queries are methods of its QuerySet, so that other packages seldom build any."""

from conversations.models.agent import Agent
from conversations.models.agent_profile import AgentProfile
from conversations.models.attachment import Attachment
from conversations.models.canned_reply import CannedReply
from conversations.models.contact import Contact
from conversations.models.conversation import Conversation
from conversations.models.desk_entry import DeskEntry
from conversations.models.draft import Draft
from conversations.models.label import ConversationLabel, Label
from conversations.models.mention import Mention
from conversations.models.message import Author, Message
from conversations.models.news import News
from conversations.models.reading import Reading
from conversations.models.searchable import Searchable, SearchState
from conversations.models.sign_in import SignIn
from conversations.models.token import Token
from conversations.models.view import Cursor, SavedView, View
from conversations.models.website import Origin, Website

__all__ = [
    "Agent",
    "AgentProfile",
    "Attachment",
    "Author",
    "CannedReply",
    "Contact",
    "Conversation",
    "ConversationLabel",
    "Cursor",
    "DeskEntry",
    "Draft",
    "Label",
    "Mention",
    "Message",
    "News",
    "Origin",
    "Reading",
    "SavedView",
    "SearchState",
    "Searchable",
    "SignIn",
    "Token",
    "View",
    "Website",
]
