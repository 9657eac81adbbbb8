"""The search among many messages, and what its index costs: `DATABASE_URL=... python -m tests.bench.search`.

It fills an empty database with messages of words as frequent as in a language (Zipf), searches with the function that
the page uses, and posts with the index and without it in turns; through a server, too, where it also measures polls
beside searches. Prints the best and the middle of several runs, in milliseconds. `--messages 0` takes the database as
an earlier run has left it.
"""

import argparse
import itertools
import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext

from tests.bench import search_server
from tests.bench.search_server import milliseconds, paths_of_database
from tests.bench.server import Server, collect_static_files, environment

SYLLABLES = ["ka", "lo", "mi", "ten", "ra", "su", "ver", "ing", "order", "pay", "del", "con", "pro", "re", "un", "est"]
SYLLABLES += ["al", "or", "ti", "na", "shi", "p", "ment"]
VOCABULARY, BATCH, TALKS = 60_000, 5_000, 10_000


def vocabulary() -> list[str]:
    """Words, the most frequent first."""
    chance, found = random.Random(1), dict[str, None]()
    while len(found) < VOCABULARY:
        found["".join(chance.choice(SYLLABLES) for _ in range(chance.choice([1, 2, 2, 3, 3, 4])))] = None
    return list(found)


WORDS = vocabulary()
QUERIES = {
    "two common words": f"{WORDS[0]} {WORDS[1]}",
    "a common word": WORDS[0],
    "the beginning of words, 2 letters": "or",
    "two words of 1 %": f"{WORDS[100]} {WORDS[101]}",
    "two words of 0.1 %": f"{WORDS[1002]} {WORDS[1003]}",
    "a rare word": WORDS[20_001],
    "two rare words": f"{WORDS[20_001]} {WORDS[20_002]}",
    "a common and a rare word": f"{WORDS[0]} {WORDS[20_001]}",
    "a phrase": f'"{WORDS[0]} {WORDS[1]}"',
    "a word that nobody wrote": "zzzzzz",
    "a common word from an agent": f"from:bench {WORDS[0]}",
    "a common word, long ago": f"before:2026-02-01 {WORDS[0]}",
}


def texts(number: int) -> Iterator[str]:
    """Messages."""
    chance = random.Random(2)
    weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(VOCABULARY)))
    for _ in range(number):
        yield " ".join(chance.choices(WORDS, cum_weights=weights, k=chance.choice([2, 4, 6, 8, 10, 12, 14, 20])))


def fill(number: int) -> None:
    """Write conversations and messages, with their words."""
    from datetime import timedelta

    from django.db import connection, transaction
    from django.utils import timezone

    from conversations.models import Agent, Conversation, SearchState, Website
    from conversations.models.searchable import INSERT, different_words, index_pending, prefix_of
    from tests.conftest import promote

    agent = Agent.objects.filter(username="bench").first() or promote("bench", "Bench")
    website, now, began = Website.objects.default(), timezone.now(), time.monotonic()
    talks = min(TALKS, number)
    Conversation.objects.bulk_create(
        [Conversation(website=website, customer_name=f"Customer {each}") for each in range(talks)], batch_size=BATCH
    )
    [*numbers] = Conversation.objects.order_by("pk").values_list("pk", flat=True)
    convert = connection.ops.adapt_datetimefield_value
    sql = (
        "INSERT INTO conversations_message (id, conversation_id, created_at, author, agent_id, content, files,"
        " is_formatted) VALUES (%s, %s, %s, %s, %s, %s, 0, %s)"
    )
    rows = enumerate(texts(number), 1)
    while batch := list(itertools.islice(rows, BATCH)):
        messages, found = [], []
        for pk, text in batch:
            at = now - timedelta(days=365) * (1 - pk / number)
            by = ("AGE", agent.pk) if pk % 3 == 0 else ("CUS", None)
            messages.append((pk, numbers[pk % talks], convert(at), *by, text, False))
            prefix = prefix_of(pk)
            found.append((pk, numbers[pk % talks], " ".join(prefix + word for word in different_words(text))))
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(sql, messages)
            cursor.executemany(INSERT, found)
            index_pending(batch[-1][0])
    with connection.cursor() as cursor:
        cursor.execute("UPDATE conversations_conversation SET last_message_id = %s - id", [number])
        if connection.vendor == "postgresql":
            cursor.execute("SELECT setval(pg_get_serial_sequence('conversations_message', 'id'), %s)", [number])
            cursor.execute("VACUUM ANALYZE")
    assert SearchState.now().is_complete
    print(f"{number:,} messages are written, {1e6 * (time.monotonic() - began) / number:.0f} µs for each")


def searches() -> None:
    """Search, and print how long it takes."""
    from conversations.agent.question import ask
    from conversations.models import Agent
    from conversations.models.search import search

    agent, paths = Agent.objects.get(username="bench"), paths_of_database()
    for name, query in QUERIES.items():
        walls, cpus, answer = [], [], None
        for _ in range(9):
            wall, cpu, others = time.perf_counter(), time.process_time(), milliseconds(paths)
            answer = search(agent.visible_conversations(), ask(query, agent).question, 20)
            walls.append(1000 * (time.perf_counter() - wall))
            spent = sum(milliseconds(paths).values()) - sum(others.values())
            cpus.append((1000 * (time.process_time() - cpu), spent))
        assert answer
        own, database = min(cpus, key=sum)
        more = ", cut off" if answer.after and len(answer.found) < 20 else ""
        print(
            f"{name:36} {len(answer.found):3} found: {min(walls):6.1f} (middle {statistics.median(walls):6.1f}),"
            f" CPU {own + database:5.1f} = {own:4.1f} + the database's {database:4.1f}{more}"
        )


def posts(number: int) -> None:
    """Post with the index and without it, in turns, and print the CPU time of both."""
    from conversations.actions import post_message
    from conversations.models import Agent, Conversation
    from tests.bench.without_index import no_words

    talks = list(Conversation.objects.order_by("pk")[:50])
    lines, agent, paths = list(texts(number)), Agent.objects.get(username="bench"), paths_of_database()
    costs: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(8):
        for name in sorted(costs, reverse=bool(turn % 2)):
            with no_words() if name == "without" else nullcontext():
                began, others = time.process_time(), milliseconds(paths)
                for each, text in enumerate(lines):
                    by, talk = agent if each % 3 == 0 else None, talks[each % len(talks)]
                    talks[each % len(talks)] = post_message(content=text, conversation=talk, agent=by).conversation
                spent = sum(milliseconds(paths).values()) - sum(others.values())
                costs[name].append((1e6 * (time.process_time() - began) + 1000 * spent) / number)
    best = {name: min(values) for name, values in costs.items()}
    print(f"a post, CPU with the database's: {best['with']:.0f} µs with the index, {best['without']:.0f} µs without")
    print(f"the factor: {best['with'] / best['without']:.2f} (of the actions alone, without HTTP)")


def at_a_server(number: int, seconds: float) -> Iterator[str]:
    """Polls beside searches, and posts with the index and without it."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from conversations.models import Agent, Conversation

    url, agent, session = os.environ["DATABASE_URL"], Agent.objects.get(username="bench"), SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(agent.pk), settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = agent.get_session_auth_hash()
    session.create()
    found = Conversation.objects.order_by("pk").values_list("uuid", "last_message_id")[:5_000]
    talks = [search_server.Talk(str(uuid), last) for uuid, last in found]
    collect_static_files(url)
    with Server(url) as server:
        common = [QUERIES[name] for name in ("two common words", "a common word", "a phrase", "two words of 1 %")]
        yield from search_server.polls(server, talks[100:], session.session_key or "", common, seconds)

    def start(has_index: bool) -> Server:
        return Server(url) if has_index else Server(url, DJANGO_SETTINGS_MODULE="tests.bench.without_index")

    yield from search_server.posts(start, talks[:50], list(texts(number)))


def main() -> None:
    """Fill, search, post."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.search", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--posts", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    os.environ.update(environment(os.environ["DATABASE_URL"]), DJANGO_SETTINGS_MODULE="chatsite.settings")
    import django
    from django.core.management import call_command

    django.setup()
    if options.messages:
        call_command("migrate", verbosity=0)
        fill(options.messages)
    searches()
    for line in at_a_server(options.posts, options.seconds):
        print(line, flush=True)
    posts(options.posts)


if __name__ == "__main__":
    main()
