"""The search among many messages, and what its index costs: `DATABASE_URL=... python -m tests.bench.search`.

It fills an empty database with messages of words as frequent as in a language (Zipf), searches with the function that
the page uses, and posts with the index and without it in turns. Prints the best and the middle of several runs, in
milliseconds. `--messages 0` takes the database as an earlier run has left it.
"""

import argparse
import itertools
import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

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

    agent = Agent.objects.get(username="bench")
    for name, query in QUERIES.items():
        walls, cpus, answer = [], [], None
        for _ in range(7):
            wall, cpu = time.perf_counter(), time.process_time()
            answer = search(agent.visible_conversations(), ask(query, agent).question, 20)
            walls.append(1000 * (time.perf_counter() - wall))
            cpus.append(1000 * (time.process_time() - cpu))
        assert answer
        more = ", cut off" if answer.after and len(answer.found) < 20 else ""
        print(
            f"{name:36} {len(answer.found):3} found: {min(walls):6.1f} (middle {statistics.median(walls):6.1f}),"
            f" CPU of the process {min(cpus):5.1f}{more}"
        )


def posts(number: int) -> None:
    """Post with the index and without it, in turns, and print the CPU time of both."""
    from conversations.actions import post_message
    from conversations.models import Conversation

    talks = list(Conversation.objects.order_by("pk")[:50])
    lines = list(texts(number))
    costs: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(8):
        for name in sorted(costs, reverse=bool(turn % 2)):
            with index_or_not(name == "without"):
                began = cpu()
                for each, text in enumerate(lines):
                    talks[each % len(talks)] = post_message(
                        content=text, conversation=talks[each % len(talks)]
                    ).conversation
                costs[name].append(1e6 * (cpu() - began) / number)
    best = {name: min(values) for name, values in costs.items()}
    print(f"a post, CPU with the database's: {best['with']:.0f} µs with the index, {best['without']:.0f} µs without")
    print(f"the factor: {best['with'] / best['without']:.2f} (of the actions alone, without HTTP)")


@contextmanager
def index_or_not(is_without: bool) -> Iterator[None]:
    """Write no words."""
    if not is_without:
        yield
        return

    def nothing(*_values: Any) -> Any:
        return []

    with (
        patch("conversations.models.searchable.SearchableQuerySet.add", nothing),
        patch("conversations.models.one_statement.different_words", nothing),
    ):
        yield


def cpu() -> float:
    """Seconds of CPU time of this process, and of the database's process or thread for its connection."""
    from django.db import connection

    own = time.process_time()
    if connection.vendor == "sqlite":
        return own
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_backend_pid()")
            path = f"/proc/{cursor.fetchone()[0]}/stat"
        else:
            cursor.execute("SELECT tid FROM information_schema.processlist WHERE id = CONNECTION_ID()")
            tid = cursor.fetchone()[0]
            path = next(str(each) for each in Path("/proc").glob(f"[0-9]*/task/{tid}/stat"))
    fields = Path(path).read_text().rpartition(")")[2].split()
    return own + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Fill, search, post."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.search", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--posts", type=int, default=1_000)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
    import django
    from django.core.management import call_command

    django.setup()
    if options.messages:
        call_command("migrate", verbosity=0)
        fill(options.messages)
    searches()
    posts(options.posts)


if __name__ == "__main__":
    main()
