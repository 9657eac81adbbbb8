"""Doorbells: WebSockets that say that there are new messages, never what they say. Clients fetch them over HTTP.

Clients say on them who is typing, and agents which conversation they look at. Nothing of that is stored.
"""

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import parse_qs
from uuid import UUID

from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie

from conversations.announce import AGENTS, customer_group, desk_group, is_desk, say, website_group
from conversations.live.channel_layer import Event
from conversations.live.open_sockets import OF_ADDRESS, Place, TooManySockets, free_place, take_place
from conversations.live.origin_check import TOKEN_ONLY, WEBSITE_ORIGIN, bearer_token
from conversations.live.rounds import Found, Rounds, Subscription, rounds_of_loop
from conversations.metrics import numbers
from conversations.models import Agent, Conversation, Token, Website
from conversations.models.agent import public_name
from conversations.models.conversation import KnownConversation, parse_uuid
from conversations.models.recipients import Began, recipients
from conversations.models.website import DEFAULT
from conversations.presence import agents, typing
from conversations.presence.looking import looking
from conversations.threshold import customer_secret
from conversations.threshold.origin import speaks_for
from conversations.threshold.proxies import address_of_scope

PROTOCOL = "chat"
"""A page without a cookie offers two subprotocols: this one, and the conversation's secret or the agent's token."""

SOCKET = "chatsite.socket"
"""The key in a socket's scope for the connection, where the server is ours: see Socket."""

PAUSE = 0.9
"""Seconds between two messages of a client: what it says sooner is ignored. Of two in a second, networks delay some."""

MAX_ID = 2**63 - 1

TYPES: dict[str, dict[str, Any]] = {
    json.dumps(said, separators=separators): said
    for said in ({"type": "typing", "on": True}, {"type": "typing", "on": False})
    for separators in ((",", ":"), (", ", ": "))
}
"""What is said most often, as pages and programs write it. It need not be parsed each time."""

PROCESS, _numbers = secrets.token_hex(4), itertools.count()
"""For ids of pages that are unique among all processes."""

# Close codes
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
REVOKED = 4403
NOT_FOUND = 4404

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Socket(Protocol):
    """A connection that needs no task to be written to, or read: chatsite/serving/websocket.py has one."""

    listener: Callable[[str], None] | None
    """Called at once with each text that the client sends."""

    def send_text(self, text: str, *, is_common: bool = True) -> None:
        """Send a message. `is_common`: whether many sockets may be sent the same, so it may be kept for a while."""

    def close_with(self, code: int) -> None:
        """Close with a code."""


class AsgiSocket:
    """A Socket for other servers, which offer only `send`: each message is sent in a task, and `receive` has texts."""

    listener: Callable[[str], None] | None = None

    def __init__(self, send: Send) -> None:
        """`send` is the server's."""
        self.send = send
        self.sending: set[asyncio.Future[None]] = set()  # the event loop itself keeps only weak references

    def send_soon(self, message: Mapping[str, Any]) -> None:
        """Send a message; tasks start in the order in which they were made."""
        task = asyncio.ensure_future(self.send(message))
        self.sending.add(task)
        task.add_done_callback(self.sending.discard)

    def send_text(self, text: str, *, is_common: bool = True) -> None:
        """Send a message."""
        self.send_soon({"type": "websocket.send", "text": text})

    def close_with(self, code: int) -> None:
        """Close with a code."""
        self.send_soon({"type": "websocket.close", "code": code})


def look_up(bells: "Sequence[Doorbell]") -> list[Found]:
    """In a thread: what each of these doorbells may hear. All conversations are found by one query."""
    began = Began.now()
    conversations = Conversation.objects.by_uuids({bell.secret for bell in bells if bell.secret})
    for secret, known in conversations.items():
        recipients.put_read(secret, known.pk, known.website_id, known.contact_id, began)
    found: list[Found] = []
    for bell in bells:
        try:
            found.append(bell.subscription(conversations))
        except Exception as error:  # it concerns only this one
            found.append(error)
    return found


class Doorbell:
    """Checks access, rings at once and with each ring of its groups, and checks access again after each HEARTBEAT.

    Thousands may be open, so each keeps only what it needs after the handshake, and has no task or timer of its own.
    """

    __slots__ = (
        "groups",
        "is_open",
        "is_quiet",
        "is_rung",
        "is_typing",
        "places",
        "rounds",
        "said_at",
        "slot",
        "socket",
    )

    secret: UUID | None = None
    accepts_protocol = True
    limited_per_conversation = True

    def __init__(self, scope: Scope, socket: Socket) -> None:
        """Read from the scope what the lookups need."""
        self.socket = socket
        self.rounds: Rounds = rounds_of_loop(look_up)
        self.groups: tuple[str, ...] = ()
        self.places: tuple[Place, ...] = ()
        self.slot: int | None = None
        self.is_open = True
        self.is_rung = False
        self.is_quiet = False  # whether the next look-up is no heartbeat, and needs no ring
        self.is_typing = False
        self.said_at = 0.0  # time.monotonic()

    def subscription(self, conversations: Mapping[UUID, KnownConversation]) -> Subscription | None:
        """In a thread: the groups that this client may join and the last message there; None without access.

        `conversations` has those of all secrets that exist.
        """
        raise NotImplementedError

    def open(self, address: str) -> None:
        """Begin, after the socket is accepted. Close it with 1013 if its address has too many."""
        try:
            self.places += (take_place(OF_ADDRESS, address),)
        except TooManySockets:
            self.close(TRY_AGAIN_LATER)
        else:
            self.rounds.look_up([self])

    def hear(self, found: Found) -> None:
        """Join the groups that were found and ring. Close with 4404 or, later, 4403 if it has access to nothing."""
        if not self.is_open:
            return
        if isinstance(found, Exception):  # the next heartbeat tries again
            if not self.is_rung:
                self.close(INTERNAL_ERROR)
            return
        if found is None:
            self.close(REVOKED if self.is_rung else NOT_FOUND)
            return
        groups, last = found
        if not self.is_rung:
            try:
                if self.limited_per_conversation:
                    self.places += (take_place("sockets of one conversation", groups[0]),)
            except TooManySockets:
                self.close(TRY_AGAIN_LATER)
                return
            self.is_rung = True
            self.rounds.enter(self)
        if self.is_quiet:
            self.is_quiet = False
        else:
            self.ring({"last": last})
        self.join(groups)

    def join(self, groups: tuple[str, ...]) -> None:
        """Be in these groups and no others, and ring for what came between the query and now."""
        if groups == self.groups:
            return
        layer: Any = get_channel_layer()
        before, self.groups = self.groups, groups  # first: `stop` leaves them all, also if an event cannot be told
        for group in set(before) - set(groups):
            layer.leave(group, self)
        for group in set(groups) - set(before):
            layer.join(group, self)
            for event in list((layer.recent or {}).get(group, {}).values()):
                self.tell(event)

    def tell(self, event: Event) -> None:
        """Take an event of a group. Processes of a later version may send others, which are ignored."""
        kind = event.get("type")
        if kind == "ring":
            self.ring(event)
        elif kind == "recheck":
            self.is_quiet = False
            self.rounds.look_up([self])
        elif kind in {"typing", "looking"}:
            self.pass_on(event)

    def take(self, text: str) -> None:
        """Take what the client says, at most once in PAUSE. What is more, or is not understood, is ignored."""
        now = time.monotonic()
        if not text or not self.groups or now < self.said_at + PAUSE:
            return
        self.said_at = now
        try:
            said = TYPES.get(text) or json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(said, dict):
            self.understand(said)

    def understand(self, said: dict[str, Any]) -> None:
        """Take a message: what it may have, and of which type, is not checked yet."""
        if said.get("type") == "typing" and isinstance(on := said.get("on"), bool) and (on or self.is_typing):
            self.say_typing(on=on)

    def say_typing(self, *, on: bool) -> None:
        """Tell others that whoever has this socket is typing, or no more."""
        self.is_typing = on

    def pass_on(self, event: Event) -> None:
        """Tell the client who is typing or looking. What a customer has not sent yet is kept nowhere."""
        self.socket.send_text(json.dumps(event), is_common="text" not in event)

    def look_up_quietly(self) -> None:
        """Check access again, without a ring."""
        self.is_quiet = True
        self.rounds.look_up([self])

    def ring(self, event: Event) -> None:
        """Tell the client that there are messages up to `last`."""
        numbers.rings += 1
        self.socket.send_text(_ring_of_customer(event["last"]))

    def close(self, code: int) -> None:
        """Close the socket."""
        self.stop()
        self.socket.close_with(code)

    def stop(self) -> None:
        """Ring no more."""
        if self.is_typing:
            self.say_typing(on=False)
        self.is_open = False
        self.rounds.leave(self)
        if self.groups:
            self.join(())

    def end(self) -> None:
        """The connection is closed: count it no more."""
        for place in self.places:
            free_place(place)
        self.places = ()
        self.stop()


class ConversationDoorbell(Doorbell):
    """A doorbell of one conversation, for its customer."""

    __slots__ = ("conversation", "may_peek", "peeked")

    def __init__(self, scope: Scope, socket: Socket) -> None:
        """The conversation is not known yet."""
        super().__init__(scope, socket)
        self.conversation = 0
        self.may_peek: bool | None = None  # whether the website lets agents see what is not sent yet; None: not asked
        self.peeked: str | None = None  # what waits for the answer

    def subscription_to(self, conversation: KnownConversation | None) -> Subscription | None:
        """The conversation, if there is one."""
        if conversation is None:
            return None
        self.conversation = conversation.pk
        if self.may_peek is not None:
            self.may_peek = Website.objects.by_id(conversation.website_id).peek
        return (customer_group(conversation.pk),), conversation.last_message_id

    def hear(self, found: Found) -> None:
        """As above. What the customer has typed meanwhile may be shown now."""
        super().hear(found)
        if self.peeked is not None and self.is_open and not isinstance(found, Exception):
            self.peek(self.peeked)

    def understand(self, said: dict[str, Any]) -> None:
        """As above; or what the customer has typed, which the page has told them that agents see."""
        text = said.get("text")
        if said.get("type") != "peek":
            super().understand(said)
        elif isinstance(text, str) and len(text) <= typing.MAX_PEEK:
            self.peek(text)

    def peek(self, text: str) -> None:
        """Tell the agents who look at the conversation what is typed, if the website wants that."""
        self.peeked = None
        if self.may_peek:
            self.is_typing = bool(text)
            self.tell_desk(on=self.is_typing, text=text)
        elif self.may_peek is None:
            self.may_peek, self.peeked = False, text
            self.look_up_quietly()

    def say_typing(self, *, on: bool) -> None:
        """Tell the agents who look at the conversation."""
        super().say_typing(on=on)
        self.tell_desk(on=on)

    def tell_desk(self, *, on: bool, text: str | None = None) -> None:
        """Tell the agents who look at the conversation that its customer types, if there are any."""
        if looking.is_anybody(self.conversation):
            say(desk_group(self.conversation), typing.by_customer(self.conversation, on=on, text=text))


class CustomerDoorbell(ConversationDoorbell):
    """Rings on the customer's page, for the conversation of the secret in its cookie or its subprotocols."""

    __slots__ = ("secret",)

    def __init__(self, scope: Scope, socket: Socket) -> None:
        """Read the secret from the subprotocols if it is there: scripts cannot set any other header of a socket."""
        super().__init__(scope, socket)
        key = scope["url_route"]["kwargs"].get("key", DEFAULT)
        [host] = parse_qs(scope["query_string"].decode("latin1")).get("host", [""])[:1]
        name = customer_secret.cookie_name(key, host)
        self.secret = customer_secret.read(_cookies(scope), name, _second_protocol(scope))

    def subscription(self, conversations: Mapping[UUID, KnownConversation]) -> Subscription | None:
        """The conversation of the secret."""
        return self.subscription_to(conversations.get(self.secret)) if self.secret else None


class WidgetDoorbell(ConversationDoorbell):
    """Rings for third-party widgets, which know the conversation's uuid."""

    __slots__ = ("secret", "website_origin")

    accepts_protocol = False

    def __init__(self, scope: Scope, socket: Socket) -> None:
        """Read the uuid, and the origin of the page if it is not ours."""
        super().__init__(scope, socket)
        self.secret = parse_uuid(scope["url_route"]["kwargs"]["uuid"])
        self.website_origin: str | None = scope.get(WEBSITE_ORIGIN)

    def subscription(self, conversations: Mapping[UUID, KnownConversation]) -> Subscription | None:
        """The conversation of the uuid, if the page that opens the socket is ours or of the conversation's website."""
        conversation = conversations.get(self.secret) if self.secret else None
        origin = self.website_origin
        if conversation and origin and not speaks_for(origin, Website.objects.by_id(conversation.website_id)):
            return None
        return self.subscription_to(conversation)


class AgentDoorbell(Doorbell):
    """Rings in an agent's inbox and in their programs, for all conversations that the agent may see."""

    __slots__ = ("agent", "looks_at", "may_speak", "name", "page", "public_name", "session_key", "token", "wanted")

    limited_per_conversation = False

    def __init__(self, scope: Scope, socket: Socket) -> None:
        """Read a token from the header Authorization, or from the subprotocols: scripts of pages cannot set headers."""
        super().__init__(scope, socket)
        self.token = bearer_token(scope) or _second_protocol(scope) or ""
        by_token = self.token or TOKEN_ONLY in scope
        self.session_key = None if by_token else _cookies(scope).get(settings.SESSION_COOKIE_NAME, "")
        self.page = f"{PROCESS}-{next(_numbers)}"
        self.agent, self.name, self.public_name, self.may_speak = 0, "", "", True
        self.wanted: int | None = None  # the conversation that the page shows, as it says
        self.looks_at: int | None = None  # the same, once it is known that the agent may see it

    def subscription(self, conversations: Mapping[UUID, KnownConversation]) -> Subscription | None:
        """All conversations, or those of the agent's websites, while the session or the token is an agent's.

        Also what is said of the conversation that the page shows, while the agent may see it.
        """
        agent = self.find_agent()
        if agent is None:
            return None
        self.agent, self.name, self.public_name = agent.pk, str(agent), public_name(agent)
        groups, last = _subscription_of(agent)
        wanted = self.wanted
        if wanted is not None and self.may_speak and agent.visible_conversations().by_id(wanted):
            groups += (desk_group(wanted),)
        return groups, last

    def find_agent(self) -> Agent | None:
        """In a thread: the agent of the session or the token, who is online then."""
        if self.session_key is None:
            agent, self.may_speak = _agent_of_token(self.token)
            return agent
        request = HttpRequest()
        request.session = found = import_module(settings.SESSION_ENGINE).SessionStore(self.session_key)
        found.is_optional = True  # a session that a new password has ended gives no access, deleted or not
        agent = Agent.objects.for_user(get_user(request))
        if agent:
            agents.mark_online(agent)
        return agent

    def hear(self, found: Found) -> None:
        """As above. If the agent looks at the conversation from now on, tell the colleagues who do."""
        if isinstance(found, tuple):
            # Without the conversation that the page showed while it was looked up, if it shows another one by now.
            groups = [group for group in found[0] if group == desk_group(self.wanted or 0) or not is_desk(group)]
            found = tuple(groups), found[1]
            if self.looks_at is not None and desk_group(self.looks_at) not in found[0]:
                self.look_away()
        super().hear(found)
        if self.is_open and self.wanted != self.looks_at and desk_group(self.wanted or 0) in self.groups:
            self.looks_at = self.wanted
            self.say_looking(on=True)

    def understand(self, said: dict[str, Any]) -> None:
        """As above; or which conversation the page shows, None for none."""
        if said.get("type") != "looking":
            super().understand(said)
            return
        wanted = said.get("conversation", "")
        if wanted is not None and (type(wanted) is not int or not 0 < wanted <= MAX_ID):
            return
        if wanted is not None and wanted == self.looks_at:
            self.say_looking(on=True)
            return
        self.look_away()
        self.wanted = wanted
        if wanted is not None:
            self.look_up_quietly()

    def say_typing(self, *, on: bool) -> None:
        """Tell the customer and the colleagues of the conversation that the agent looks at, if there is one."""
        if self.looks_at is None:
            return
        super().say_typing(on=on)
        say(customer_group(self.looks_at), typing.for_customer(self.public_name, on=on))
        say(desk_group(self.looks_at), typing.by_agent(self.looks_at, self.agent, self.name, on=on))

    def say_looking(self, *, on: bool) -> None:
        """Tell the colleagues who look at the same conversation."""
        if self.looks_at is not None:
            event = {"type": "looking", "conversation": self.looks_at, "who": self.name}
            say(desk_group(self.looks_at), {**event, "agent": self.agent, "page": self.page, "on": on})

    def look_away(self) -> None:
        """Look at no conversation any more."""
        if self.is_typing:
            self.say_typing(on=False)
        if self.looks_at is not None:
            self.join(tuple(group for group in self.groups if group != desk_group(self.looks_at)))
            self.say_looking(on=False)
        self.wanted = self.looks_at = None

    def pass_on(self, event: Event) -> None:
        """Tell the page which colleagues look at the conversation, or who is typing, but not about its own agent."""
        conversation = event["conversation"]
        if event["type"] == "looking":
            others = looking.others(conversation, self.agent)
            if others or not event["on"]:
                super().pass_on({"type": "looking", "conversation": conversation, "who": others})
        elif event.get("agent") != self.agent:
            super().pass_on(event)

    def stop(self) -> None:
        """As above, and look at nothing."""
        self.look_away()
        super().stop()

    def ring(self, event: Event) -> None:
        """Tell the inbox which conversation has changed; a heartbeat names none."""
        numbers.rings += 1
        pairs = ((name, tuple(value) if isinstance(value, list) else value) for name, value in event.items())
        self.socket.send_text(_ring_of_agent(tuple(pairs)))  # from another process, `mentions` is a list


@lru_cache(100)
def _ring_of_customer(last: int) -> str:
    return json.dumps({"type": "messages", "last": last})


@lru_cache(100)
def _ring_of_agent(event: tuple[tuple[str, Any], ...]) -> str:
    return json.dumps({**dict(event), "type": "messages"})


def _second_protocol(scope: Scope) -> str | None:
    """The subprotocol that is offered beside PROTOCOL: a secret or a token."""
    offered = scope["subprotocols"]
    return next((protocol for protocol in offered if protocol != PROTOCOL), None) if PROTOCOL in offered else None


def _cookies(scope: Scope) -> dict[str, str]:
    found = next((value for name, value in scope["headers"] if name == b"cookie"), b"")
    return parse_cookie(found.decode("latin1"))


def _agent_of_token(text: str) -> tuple[Agent | None, bool]:
    """The agent of a token, and whether it is of a program that can answer. Others only listen."""
    token = Token.objects.authenticate(text)
    agent = Agent.objects.for_user(token.agent) if token else None
    may_write = token is not None and token.scope == Token.Scope.WRITE
    if agent and may_write:
        agents.mark_online(agent)
    return agent, may_write


def _subscription_of(agent: Agent) -> Subscription:
    groups: tuple[str, ...] = (AGENTS,)
    if agent.is_limited:
        groups = tuple(website_group(website.pk) for website in Website.objects.visible_to(agent))
    return groups, agent.visible_conversations().last_message_id()


def served_by(kind: type[Doorbell]) -> Any:
    """An ASGI application for the handshakes of sockets that are doorbells of this class.

    It returns the Doorbell, for `stay_open`, so that nothing of the handshake is kept until the socket is closed.
    """

    async def application(scope: Scope, receive: Receive, send: Send) -> Doorbell:
        """Accept the socket."""
        await receive()
        bell = kind(scope, scope.get(SOCKET) or AsgiSocket(send))
        accepted = PROTOCOL if kind.accepts_protocol and PROTOCOL in scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": accepted})
        bell.open(address_of_scope(scope))
        return bell

    return application


async def stay_open(bell: Doorbell, receive: Receive) -> None:
    """Take what the client says, until the socket is closed."""
    bell.socket.listener = bell.take
    try:
        while (message := await receive())["type"] != "websocket.disconnect":
            bell.take(message.get("text") or "")
    finally:
        bell.socket.listener = None
        bell.end()
