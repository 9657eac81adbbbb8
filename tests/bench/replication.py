"""How fast the message log is copied into SQL, in a process of its own, on DATABASE_URL and REDIS_URL.

    python -m tests.bench.replication copy ENTRIES      appends them while nobody copies, and then copies them
    python -m tests.bench.replication lag RATE SECONDS  appends so many a second while a replicator runs
    python -m tests.bench.replication post N SECONDS    posts N in so many seconds, from the Unix time on that it reads
    python -m tests.bench.replication waiting           waits until SQL has everything

Each prints JSON. The database is one of tests/bench/data.py.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any
from uuid import uuid4

PART = 10
"""The last one of so many parts of the conversations is written to, in turns."""

THREADS = 16
"""Threads that post."""

PATIENCE = 120
"""Seconds after which nothing more is expected."""


def messages(number: int) -> Iterator[Callable[[], int]]:
    """Functions that append a message and return its id."""
    from django.utils import timezone

    from conversations import message_log
    from conversations.models import Conversation, Message
    from conversations.models.settling import values_of

    message_log.prepare(Message.objects.last_id(), Conversation.objects.first_and_last_id()[1])
    talks = list(Conversation.objects.order_by("-pk")[: Conversation.objects.count() // PART])
    for index in range(number):
        talk = talks[index % len(talks)]

        def append(talk: Conversation = talk) -> int:
            message = Message(conversation=talk, author="CUS", content="One more message: is it there?")
            message.created_at, message.client_id = timezone.now(), uuid4()
            return message_log.append(
                client_id=message.client_id,
                conversation=talk.pk,
                last=talk.last_message_id,
                values=values_of(message, "", "", ()),
                uuid=talk.uuid,
                website=talk.website_id,
            ).id

        yield append


def copy(entries: int) -> dict[str, float]:
    """Messages copied a second, and how many a core copies in a second of CPU time."""
    from conversations import message_log
    from conversations.actions.replicate import Replicator
    from conversations.announce import use_running_loop

    client = message_log.client()
    client.config_set("appendfsync", "no")  # only to be ready sooner
    for append in messages(entries):
        append()
    client.config_set("appendfsync", "always")
    loop = asyncio.new_event_loop()
    loop.call_soon(use_running_loop)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    replicator = Replicator(lambda: False)
    replicator.step()  # it connects
    copied, began, used = replicator.copied, time.perf_counter(), time.process_time()
    while replicator.copied < entries:
        assert time.perf_counter() - began < PATIENCE, f"{replicator.copied} of {entries} entries were copied."
        replicator.step()
    copied, seconds = entries - copied, time.perf_counter() - began
    return {"rate": copied / seconds, "per core": copied / (time.process_time() - used)}


def lag(rate: int, seconds: int) -> dict[str, float]:
    """The milliseconds from an acknowledgement until SQL has a message, while another process copies."""
    from django.db import connection

    appended: dict[int, float] = {}
    lags: list[float] = []
    total = rate * seconds
    is_over = threading.Event()

    def watch() -> None:
        last = 0
        with connection.cursor() as cursor:
            cursor.execute("SELECT max(id) FROM conversations_message")
            [last] = cursor.fetchone() or [0]
            while len(lags) < total and not is_over.wait(0.002):
                cursor.execute("SELECT id FROM conversations_message WHERE id > %s ORDER BY id", [last])
                now = time.perf_counter()
                for [pk] in cursor.fetchall():
                    last = pk
                    lags.append(1000 * max(now - appended.get(pk, now), 0))
        connection.close()

    waiting = list(messages(total))
    thread = threading.Thread(target=watch)
    thread.start()
    time.sleep(0.2)
    began = time.perf_counter()
    for index, append in enumerate(waiting):
        time.sleep(max(began + index / rate - time.perf_counter(), 0))
        appended[append()] = time.perf_counter()
    took = time.perf_counter() - began
    thread.join(30)
    is_over.set()
    ordered = sorted(lags)
    return {
        "rate": total / took,
        "p50": median(ordered),
        "p95": ordered[int(0.95 * (len(ordered) - 1))],
        "worst": ordered[-1],
    }


def post(number: int, seconds: int) -> dict[str, float | list[float]]:
    """Post by `actions.post_message` at an even pace, as requests do below HTTP.

    Returns the milliseconds from when each was due until it was acknowledged, and how many tries have failed. What is
    late waits for one of THREADS threads, and that counts.
    """
    from django.db import close_old_connections
    from redis import RedisError

    from conversations import actions
    from conversations.announce import use_running_loop
    from conversations.models import Conversation

    loop = asyncio.new_event_loop()  # it rings
    loop.call_soon(use_running_loop)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    few = Conversation.objects.count() // PART
    talks = list(Conversation.objects.select_related("website", "contact").order_by("-pk")[:few])
    actions.post_message(content="The first one connects", conversation=talks[0])
    print("ready", flush=True)
    at = float(input())
    numbers, times, failures = iter(range(number)), list[float](), list[Exception]()
    lock = threading.Lock()

    def write() -> None:
        while True:
            with lock:
                index = next(numbers, None)
            if index is None:
                break
            due, client_id = at + index * seconds / number, uuid4()
            time.sleep(max(due - time.time(), 0))
            while True:
                try:
                    talk = talks[index * 7 % len(talks)]
                    actions.post_message(content="One of a burst: is it there?", conversation=talk, client_id=client_id)
                    break
                except RedisError as error:
                    failures.append(error)
                    time.sleep(0.1)
            times.append(1000 * (time.time() - due))
        close_old_connections()

    threads = [threading.Thread(target=write) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"times": times, "failures": len(failures), "cpu": time.process_time()}


def waiting() -> dict[str, float]:
    """The seconds until SQL has everything that is in the log now."""
    from conversations import message_log
    from conversations.log_state import waiting as entries

    began = time.perf_counter()
    first = entries(message_log.client())
    while left := entries(message_log.client()):
        assert time.perf_counter() - began < PATIENCE, f"{left} entries are not copied."
        time.sleep(0.01)
    return {"entries": first, "seconds": time.perf_counter() - began}


def main() -> None:
    """Measure what the arguments say, and print JSON."""
    what, *numbers = sys.argv[1:]
    measurements: dict[str, Callable[..., Any]] = {"copy": copy, "lag": lag, "post": post, "waiting": waiting}
    print(json.dumps(measurements[what](*map(int, numbers))))


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "chatsite.settings"
    import django

    django.setup()
    main()
