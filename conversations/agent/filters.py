"""Which conversations the inbox lists: a query string, so a link, a saved view and the back button are the same."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import EllipsisType
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlencode

from django.http import HttpRequest, QueryDict

from conversations.agent.access import opened_by_the_agent
from conversations.agent.question import MAX_LENGTH
from conversations.models import Conversation, Cursor, View, Website
from conversations.models.conversation import InboxEntry
from conversations.screen.paging import parse_number

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEFAULTS = {
    "status": "open",
    "whose": "all",
    "website": "",
    "label": None,
    "priority": None,
    "order": "newest",
    "after": "",
    "q": "",
}


class Site(NamedTuple):
    """What filters need to know of a website."""

    pk: int
    key: str

    @classmethod
    def all_of(cls, websites: Iterable[Website]) -> "tuple[Site, ...]":
        """These websites."""
        return tuple(cls(website.pk, website.key) for website in websites)


@dataclass(frozen=True)
class Filters:
    """Which conversations the list shows."""

    status: Literal["open", "snoozed", "closed", "any"] = "open"  # `any` with mentions, and only there
    # all, mine, nobody (unassigned), drafts (with a draft of the agent), mentions (of the agent) or the id of an agent
    whose: str = "all"
    website: str = ""  # its key, "" for all
    label: int | None = None
    priority: int | None = None
    order: Literal["newest", "waiting"] = "newest"
    after: str = ""  # the cursor of the row before the first one
    q: str = ""  # what to search for: then the list shows what was found, and the others say to which list to go back

    @classmethod
    def from_request(cls, request: HttpRequest) -> "Filters":
        """Read the filters from the query string, once for each request."""
        found: Filters | None = getattr(request, "_filters", None)
        if found is None:
            found = cls.parse(request.GET)
            if found.q and not opened_by_the_agent(request):
                found = replace(found, q="")  # pages repeat nothing that an attacker may have chosen
            setattr(request, "_filters", found)  # noqa: B010 (not an attribute of Django's)
        return found

    @classmethod
    def parse(cls, query: QueryDict, sites: Iterable[Site] | None = None) -> "Filters":
        """Read the filters from a query string; unknown values mean the defaults. `sites` are all that exist."""
        status, whose, website = (query.get(name, "") for name in ("status", "whose", "website"))
        if sites is not None:
            is_known = any(each.key == website for each in sites)
        else:
            is_known = not website or Website.objects.by_key(website) is not None
        if not is_known:
            website = ""  # pages repeat no text that an attacker may have chosen: see CustomerRequest.listed_host
        if whose not in {"mine", "nobody", "drafts", "mentions"}:
            whose = str(parse_number(whose) or "all")
        priority = parse_number(query.get("priority", ""))
        cursor = parse_cursor(query.get("after", ""))
        return cls(
            status=_status(status, whose),
            whose=whose,
            website=website,
            label=parse_number(query.get("label", "")) or None,
            priority=priority if priority in Conversation.Priority.values else None,
            order="waiting" if query.get("order") == "waiting" else "newest",
            after=write_cursor(cursor) if cursor else "",
            q=query.get("q", "").strip()[: 2 * MAX_LENGTH],
        )

    def query_string(self, **changes: Any) -> str:
        """Return the filters as a query string, with some of them changed; "" if all are the defaults."""
        values = {name: getattr(self, name) for name in DEFAULTS} | changes
        if "any" in {values["status"], self.status}:  # implied by `whose`
            values["status"] = changes.get("status", "open")
        query = urlencode({name: value for name, value in values.items() if value != DEFAULTS[name]})
        return f"?{query}" if query else ""

    @cached_property
    def query(self) -> str:
        """The query string of links that keep these filters."""
        return self.query_string()

    @property
    def first_page(self) -> str:
        """The query string of the list from its first row."""
        return self.query_string(after="", q="")

    @property
    def newest_results(self) -> str:
        """The query string of a search from its first row, without its question mark."""
        return self.query_string(after="")[1:]

    @property
    def list_parameters(self) -> list[tuple[str, str]]:
        """The parameters of the list to which the agent goes back from a search."""
        return parse_qsl(self.first_page[1:])

    @property
    def parameters(self) -> QueryDict:
        """The parameters of `query`, for the template tag `querystring`; by default it would repeat the request's."""
        return QueryDict(self.query[1:])

    @property
    def is_narrow(self) -> bool:
        """Whether it shows less than the tabs say."""
        return bool(self.website or self.label or self.priority or self.whose.isdigit() or self.order == "waiting")

    @property
    def kind_of_whose(self) -> str:
        """`whose`, but "one" for every agent's id."""
        return "one" if self.whose.isdigit() else self.whose

    def view(self, agent_id: int, sites: Iterable[Site], **changes: Any) -> View:
        """The query for these filters with some changes, for an agent who sees these websites."""
        values = {name: getattr(self, name) for name in DEFAULTS} | changes
        whose: str = values["whose"]
        assignee: int | EllipsisType | None = ...
        if whose not in {"all", "drafts", "mentions"}:
            assignee = agent_id if whose == "mine" else int(whose) if whose.isdigit() else None
        status = _status(values["status"], whose)
        return View(
            status=status,
            assignee=assignee,
            website_id=next((each.pk for each in sites if each.key == values["website"]), None),
            label_id=values["label"],
            priority=values["priority"],
            order=values["order"] if status == "open" else "newest",
            writer=agent_id if whose == "drafts" else None,
            mentioned=agent_id if whose == "mentions" else None,
        )

    @property
    def cursor(self) -> Cursor | None:
        """After which row the list begins, None for its first row."""
        cursor = parse_cursor(self.after)
        has_moment = self.status == "snoozed" or (self.status == "open" and self.order == "waiting")
        return cursor if cursor and (cursor.moment is not None) == has_moment else None  # else it is of another list

    def cursor_of(self, entry: InboxEntry) -> str:
        """The cursor of a row of this list."""
        if self.whose == "mentions":
            return write_cursor(Cursor(entry.mention_id))
        if self.status == "snoozed":
            return write_cursor(Cursor(entry.pk, entry.snoozed_until))
        if self.status == "open" and self.order == "waiting":
            return write_cursor(Cursor(entry.pk, entry.waiting_since))
        return write_cursor(Cursor(entry.last_message_id))


def _status(text: str, whose: str) -> Literal["open", "snoozed", "closed", "any"]:
    """The status that a list shows: mentions are found wherever they are, so nobody misses one."""
    if whose == "mentions":
        return "any"
    return "snoozed" if text == "snoozed" else "closed" if text == "closed" else "open"


def write_cursor(cursor: Cursor) -> str:
    """A cursor in a query string: "12", or "1764277000123456-12" with a moment in microseconds."""
    if cursor.moment is None:
        return str(cursor.last)
    return f"{(cursor.moment - EPOCH) // timedelta(microseconds=1)}-{cursor.last}"


def parse_cursor(text: str) -> Cursor | None:
    """The cursor in a query string, None if it is not one."""
    moment, dash, last = text.rpartition("-")
    number, microseconds = parse_number(last), parse_number(moment)
    if number is None or (dash and microseconds is None):
        return None
    if microseconds is None:
        return Cursor(number)
    try:
        return Cursor(number, EPOCH + timedelta(microseconds=microseconds))
    except OverflowError:
        return None
