"""No message is lost, duplicated or out of order while the server is killed and sockets drop."""

from random import Random

import pytest

from tests.browser.people import Api, People, Person, Row, eventually, uuid_of
from tests.conftest import Server

pytestmark = pytest.mark.browser

EACH = 60  # messages of each side
KILLS = 6
SEED = 20250308


def talk_through_chaos(chance: Random, alice: Person, bob: Person, server: Server) -> dict[Person, list[str]]:
    """Let both write while the server is killed and sockets drop; returns what each has written."""
    written = {alice: [f"alice {number}" for number in range(2, EACH + 1)]}
    written[bob] = [f"bob {number}" for number in range(1, EACH + 1)]
    left = {person: iter(texts) for person, texts in written.items()}
    turns = [person for person, texts in written.items() for _ in texts]
    chance.shuffle(turns)
    kills = set(chance.sample(range(0, len(turns) - 10, 10), KILLS))
    back_at = -1
    for turn, person in enumerate(turns):
        person.says(next(left[person]))
        if turn in kills:
            server.kill()  # while a message is being sent
            back_at = turn + chance.randint(1, 5)
        elif turn == back_at:
            server.start()
        elif turn > back_at and chance.random() < 0.2:
            chance.choice(turns).loses_socket()
    return written


def shows(person: Person, messages: list[Row]) -> None:
    """Wait until the page shows exactly these messages."""
    eventually(person.page, lambda: person.screen() == messages, "the screen shows all that there is", timeout=60)


def shows_after_a_reload(person: Person, messages: list[Row]) -> None:
    """Reload, load all older messages, and return what the page shows."""
    person.reloads()
    older = person.page.get_by_role("link", name="Show older messages")
    for most in range(50, len(messages), 50):
        shows(person, messages[-most:])
        older.click()
    shows(person, messages)


def test_six_kills_and_dropped_sockets_lose_no_message(people: People, api: Api, killable_server: Server) -> None:
    alice, bob = people.customer(server=killable_server), people.agent(server=killable_server)
    alice.says("Let the chaos begin.")
    bob.opens("Let the chaos begin.")
    uuid = uuid_of(alice)
    written = talk_through_chaos(Random(SEED), alice, bob, killable_server)
    for person in (alice, bob):
        eventually(person.page, lambda: len(api.read(uuid)) == 2 * EACH, "all messages have arrived", timeout=60)
    messages = api.read(uuid)
    ids = [number for number, _ in messages if number]
    assert ids == sorted(set(ids))
    for texts in written.values():
        assert [text for _, text in messages if text in texts] == texts  # each once, in the order of writing
    for person in (alice, bob):
        shows(person, messages)
        shows_after_a_reload(person, messages)
