"""Responses with a list of messages. Their size is bounded. The JSON is built without pydantic, which is slower."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponse

from conversations.api.schemas import LAST_MESSAGE, iso_utc
from conversations.models import Attachment, Author, Conversation, Message, News, replica
from conversations.models.agent import public_name
from conversations.models.agent_profile import picture_of
from conversations.models.conversation import AWAY
from conversations.models.removed_rows import removed_messages
from conversations.models.settling import newest_in_log, settle_number
from conversations.poll_cache import mark_empty
from conversations.screen.avatars import picture_url
from conversations.screen.paging import MAX_BYTES, MAX_NUMBER

BATCH_SIZE = 25
"""Messages that one query reads; 25 of the longest are 2 MB."""

Key = UUID | int | None
"""A conversation's uuid (customers), its id (agents: then no uuid is in the response), or None for no conversation."""

encode = json.JSONEncoder(ensure_ascii=False).encode


def oldest_first(key: Key, since: int, limit: int, offset: int, *, changes: bool = False) -> HttpResponse:
    """The messages with ids above `since`: at most `limit`, without the first `offset`, as many as fit.

    changes: whether those are among them that were taken back above this id.
    """
    news = _first_batch(key, since, min(limit, BATCH_SIZE), offset, changes)
    items, all_fit = _fitting(_read_forwards(key, news, limit, changes), key)
    if all_fit and len(items) < limit and not offset:
        response = _response(items, len(items), news)
        if news and not items:
            mark_empty(response, news.conversation_id)
    else:
        try:
            if news:
                settle_number(news.conversation_id)
            count = _count(key, news, since, changes)
        except AWAY:
            if not items or offset:
                raise
            count = len(items) + 1  # the log has these, and nobody knows how many more there are
        response = _response(items, count, news, more=offset + len(items) < count)
    if news is None and offset:  # it skips all messages that there are
        news = News.after(key, since, 1)
    response[LAST_MESSAGE] = str(news.last_message_id if news else 0)
    return response


def only(message: Message, key: Key) -> HttpResponse:
    """This message."""
    return _response([_as_json(message, key)], 1)


def up_to_newest(posted: Message, key: Key, since: int) -> HttpResponse:
    """All messages with ids above `since`, oldest first. If they do not all fit, the newest that do.

    While the database is away, the newest ones that the message log has.

    `posted` is the message that this request has written: if it is the only new one, nothing need be read again.

    Raises redis.RedisError if the message log has it and cannot be read. A retry will find it.
    """
    if posted.follows is not None and posted.follows <= since < posted.pk:
        return _response([_as_json(posted, key)], 1)
    conversation = posted.conversation
    last = since

    def read(news: News | None) -> Iterator[Message]:
        nonlocal last
        for message in _read_forwards(key, news, MAX_NUMBER):
            last = message.pk
            yield message

    try:
        news = News.after(key, since, BATCH_SIZE, has_removals=False)  # None if the secret has just been renewed
        items, all_fit = _fitting(read(news), key)
        if not all_fit:
            settle_number(conversation.pk)
            items, _ = _fitting(_read_backwards(conversation, since), key)
            return _response(items[::-1], conversation.messages.written().after(since).count(), more=True)
    except AWAY:
        found = [message for message in newest_in_log(conversation, BATCH_SIZE) if message.pk > since]
        found = [message for message in found if not message.is_removal]
        if not found:
            raise
        items, _ = _fitting(reversed(found), key)
        return _response(items[::-1], len(items), more=True)
    if news and last < posted.pk and settings.MESSAGE_LOG:
        raise redis.TimeoutError("The message log has taken a message, and does not answer any more.")
    return _response(items, len(items))


def _first_batch(key: Key, since: int, most: int, offset: int, changes: bool) -> News | None:
    """As `News.after`. To skip many messages is left to the replica."""
    news = News.after(key, MAX_NUMBER, 1) if offset and settings.REPLICA else None
    if news:
        settle_number(news.conversation_id)
        conversation = _for_replica(news)
        if conversation and (found := replica.oldest(conversation, since, most, offset, has_removals=changes)):
            return dataclasses.replace(news, messages=found)
    return News.after(key, since, most, offset, has_removals=changes)


def _count(key: Key, news: News | None, since: int, changes: bool) -> int:
    conversation = _for_replica(news) if news else None
    if conversation:
        return replica.count(conversation, since, has_removals=changes)
    return Message.objects.of(key).after(since).count_of(has_removals=changes)


def _for_replica(news: News) -> Conversation | None:
    """The conversation as it is now, if there is a replica."""
    return Conversation.objects.by_id(news.conversation_id) if settings.REPLICA else None


def _read_forwards(key: Key, news: News | None, limit: int, changes: bool = False) -> Iterator[Message]:
    """The first `limit` messages. `news` has at most BATCH_SIZE of them, which are read already."""
    conversation = None
    while news and news.messages:
        yield from news.messages
        limit -= len(news.messages)
        if limit <= 0 or len(news.messages) < BATCH_SIZE:
            return
        since, most = news.messages[-1].pk, min(limit, BATCH_SIZE)
        conversation = conversation or _for_replica(news)
        found = replica.oldest(conversation, since, most, has_removals=changes) if conversation else []
        news = (
            dataclasses.replace(news, messages=found) if found else News.after(key, since, most, has_removals=changes)
        )


def _read_backwards(conversation: Conversation, since: int) -> Iterator[Message]:
    before = None
    while batch := Message.objects.newest(conversation.pk, BATCH_SIZE, since=since, before=before):
        yield from (message for message in reversed(batch) if not message.is_removal)
        before = batch[0].pk


def _fitting(messages: Iterable[Message], key: Key) -> tuple[list[bytes], bool]:
    """The first messages that fit into a response, at least one, as JSON, and whether all fit."""
    items: list[bytes] = []
    size = 0
    for message in messages:
        found = removed_messages([message]) if message.is_removal else [message]
        if not found:  # it was deleted since
            continue
        item = _as_json(found[0], key)
        size += len(item)
        if items and size > MAX_BYTES:
            return items, False
        items.append(item)
    return items, True


def _as_json(message: Message, key: Key) -> bytes:
    """A MessageOut or, for a key that is an id, an AgentMessageOut."""
    is_agents = isinstance(key, int)
    address = f"/api/conversation/{key}" if is_agents else f"/api/messages/{key}"
    item = {
        "conversation": None if is_agents else str(key),
        "id": message.pk,
        "date": iso_utc(message.created_at),
        "content": message.content,
        "author": message.author,
        "agent": _author(message.agent) if message.author == Author.AGENT else None,
        "attachments": [_attachment(file, f"{address}/files/{file.uuid}/") for file in message.attached],
    }
    if message.is_removed:
        item["removed"] = True
    if message.removed_by:
        item["change"] = message.removed_by
    return encode(item).encode()


def _author(agent: User | None) -> dict[str, str]:
    """An AuthorOut."""
    picture = picture_of(agent)
    return {"name": public_name(agent)} | ({"picture": picture_url(picture)} if picture else {})


def _attachment(file: Attachment, url: str) -> dict[str, Any]:
    """An AttachmentOut."""
    original = {"url": f"{url}?original", "name": file.original_name, "size": file.original_size}
    return {
        "url": url,
        "name": file.name,
        "kind": file.kind,
        "size": file.size,
        "width": file.width,
        "height": file.height,
        "original": original if file.original else None,
    }


def _response(items: list[bytes], count: int, news: News | None = None, *, more: bool = False) -> HttpResponse:
    """MessagesOut. `more` is left out unless it is true, and `seen` unless `news` has a receipt."""
    end = b', "more": true}' if more else b"}"
    if news and news.seen_at:
        end = b', "seen": {"id": %d, "at": "%b"}%b' % (news.last_message_id, iso_utc(news.seen_at).encode(), end)
    content = b'{"items": [%b], "count": %d%b' % (b", ".join(items), count, end)
    return HttpResponse(content, content_type="application/json")
