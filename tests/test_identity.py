"""Identity: only a website's own server can prove who its customers are."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import jwt
import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import connection

from conversations.actions import renew_secret
from conversations.models import Contact, Conversation, Website
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db
SECRET, OLD_SECRET, HMAC_SECRET, OLD_HMAC_SECRET = "s" * 64, "o" * 64, "h" * 64, "p" * 64
PATH = "/chat/shop/"
EDITOR = SimpleNamespace(connection=connection)  # as much of a schema editor as migrations of data use


@pytest.fixture
def shop() -> Website:
    """A website that accepts both kinds of proof, each with two secrets."""
    return Website.objects.create(
        key="shop",
        name="Fern & Fired",
        identity_secret=SECRET,
        identity_secret_before=OLD_SECRET,
        accepts_hmac=True,
        hmac_secret=HMAC_SECRET,
        hmac_secret_before=OLD_HMAC_SECRET,
    )


@pytest.fixture
def legacy(shop: Website) -> Website:
    """A website that was set up when both kinds of proof had one secret, after the migration."""
    Website.objects.update(accepts_hmac=False, hmac_secret="", hmac_secret_before="")
    import_module("conversations.migrations.0006_separate_hmac_secret").keep_both_kinds(
        apps, SimpleNamespace(connection=connection)
    )
    shop.refresh_from_db()
    return shop


def token(sub: str = "alice-7", secret: str = SECRET, **more: Any) -> str:
    """Return a token as the shop's server signs it."""
    now = int(time.time())
    return jwt.encode({"sub": sub, "iat": now, "exp": now + 600, **more}, secret, algorithm="HS256")


def says(page: Page, text: str, proof: str | None = None) -> Any:
    """Send a message from the chat page, with a proof."""
    return page.htmx(f"{PATH}messages/", {"content": text}, **({"X-Identity": proof} if proof else {}))


def identifies(page: Page, proof: str) -> Any:
    """Send the request of the chat page after the host page has called `identify`."""
    return page.htmx(f"{PATH}identify/", {}, **{"X-Identity": proof})


def test_a_verified_customer_has_their_conversation_on_every_device(shop: Website) -> None:
    desk, phone = Page(), Page()
    says(desk, "From my desk", token(name="Alice", email="alice@example.com"))
    assert identifies(phone, token()).status_code == 204
    assert texts(phone.get(PATH)) == ["From my desk"]
    conversation = Conversation.objects.get()
    assert conversation.is_verified
    assert (conversation.customer_name, conversation.customer_email) == ("Alice", "alice@example.com")


def test_identifying_a_customer_who_has_not_written_stores_nothing(alice: Page, shop: Website) -> None:
    assert identifies(alice, token()).status_code == 204
    assert not Contact.objects.exists()
    assert not Conversation.objects.exists()


def test_an_anonymous_conversation_becomes_the_customers_when_they_sign_in(alice: Page, shop: Website) -> None:
    says(alice, "Before")
    identifies(alice, token(name="Alice"))
    assert texts(alice.get(PATH)) == ["Before"]
    assert str(Conversation.objects.get()) == "Alice"
    other = Page()
    identifies(other, token())
    assert texts(other.get(PATH)) == ["Before"]


def test_the_next_customer_in_the_same_browser_sees_nothing_of_the_first(alice: Page, shop: Website) -> None:
    says(alice, "Alice's own", token("alice"))
    identifies(alice, token("nora"))
    assert texts(alice.get(PATH)) == []
    says(alice, "From Nora", token("nora"))
    assert texts(alice.get(PATH)) == ["From Nora"]
    assert Conversation.objects.count() == 2


def test_a_message_with_the_proof_of_another_customer_starts_a_new_conversation(alice: Page, shop: Website) -> None:
    says(alice, "Alice's own", token("alice"))
    says(alice, "From Nora", token("nora"))
    assert [list(one.messages.values_list("content", flat=True)) for one in Conversation.objects.order_by("pk")] == [
        ["Alice's own"],
        ["From Nora"],
    ]


def test_a_verified_customer_can_resume_an_earlier_conversation(shop: Website) -> None:
    desk, phone, mallory = Page(), Page(), Page()
    says(desk, "The first", token())
    says(phone, "The second")
    identifies(phone, token())
    assert texts(phone.get(PATH)) == ["The second"]
    first = Conversation.objects.order_by("pk")[0]
    proof = {"X-Identity": token()}
    assert "The first" in phone.get(PATH, headers=proof).content.decode()
    assert phone.post(f"{PATH}resume/", {"conversation": first.pk}, headers=proof).status_code == 204
    assert texts(phone.get(PATH)) == ["The first"]
    says(mallory, "Mine")
    assert mallory.post(f"{PATH}resume/", {"conversation": first.pk}).status_code == 404
    assert texts(mallory.get(PATH)) == ["Mine"]


def test_a_secret_is_valid_until_the_second_rotation(alice: Page, shop: Website) -> None:
    for rotate, proof in (
        (shop.rotate_identity_secret, token()),
        (shop.rotate_hmac_secret, hmac_proof("alice")),
    ):
        rotate()
        assert identifies(alice, proof).status_code == 204
        rotate()
        assert identifies(alice, proof).status_code == 401
    shop.refresh_from_db()
    assert identifies(alice, token(secret=shop.identity_secret)).status_code == 204
    assert identifies(alice, hmac_proof("alice", shop.hmac_secret)).status_code == 204


def raw_token(payload: str, header: str = '{"alg":"HS256"}') -> str:
    """Return a token with a valid signature of this text, which need not be JSON."""
    encode = base64.urlsafe_b64encode
    body = b".".join(encode(part.encode("utf-8", "surrogatepass")).rstrip(b"=") for part in (header, payload))
    signature = encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).rstrip(b"=")
    return b".".join((body, signature)).decode()


def payload(**claims: str) -> str:
    """Return a token's payload, in which each claim is written as this JSON."""
    now = int(time.time())
    claims = {"sub": '"alice"', "iat": str(now), "exp": str(now + 600), **claims}
    return "{" + ",".join(f'"{name}":{value}' for name, value in claims.items()) + "}"


def unsigned() -> str:
    """Return a token that says it needs no signature."""
    now = int(time.time())
    return jwt.encode({"sub": "alice", "iat": now, "exp": now + 600}, "", algorithm="none")


INVALID: dict[str, Callable[[], str]] = {
    "another secret": lambda: token(secret="x" * 64),
    "expired": lambda: token(exp=int(time.time()) - 120),
    "from the future": lambda: token(iat=int(time.time()) + 3600),
    "no end": lambda: jwt.encode({"sub": "alice", "iat": int(time.time())}, SECRET, algorithm="HS256"),
    "nobody": lambda: jwt.encode({"iat": 1, "exp": 9_999_999_999}, SECRET, algorithm="HS256"),
    "an empty name": lambda: token(" "),
    "a long name": lambda: token("a" * 201),
    "another algorithm": lambda: jwt.encode(
        {"sub": "alice", "iat": int(time.time()), "exp": 9_999_999_999}, SECRET, algorithm="HS512"
    ),
    "no signature": unsigned,
    "no token at all": lambda: "alice",
    "far too long": lambda: token(more="x" * 5000),
    "the HMAC of another id": lambda: f"HMAC {hmac_of('alice')} nora",
    "half of an HMAC proof": lambda: f"HMAC {hmac_of('alice')}",
    "letters that are none": lambda: "HMAC ÿÿ alice",
    "an HMAC with the secret of tokens": lambda: hmac_proof("alice", SECRET),
    "a token with the secret of HMAC": lambda: token(secret=HMAC_SECRET),
    "valid for more than a year": lambda: token(exp=int(time.time()) + 367 * 24 * 3600),
    "an id that is a number": lambda: raw_token(payload(sub="7")),
    "an id that is a list": lambda: raw_token(payload(sub='["alice"]')),
    "an id that is an object": lambda: raw_token(payload(sub='{"alice":1}')),
    "an id that is true": lambda: raw_token(payload(sub="true")),
    "half of a surrogate pair": lambda: raw_token(payload(sub='"alice\\ud800"')),
    "a NUL": lambda: raw_token(payload(sub='"alice\\u0000"')),
    "a line feed": lambda: raw_token(payload(sub='"alice\\n"')),
    "an end that is infinite": lambda: raw_token(payload(exp="1e999")),
    "an end that is no number": lambda: raw_token(payload(exp="NaN")),
    "an end of 2000 digits": lambda: raw_token(payload(exp="9" * 2000)),
    "an end that is a list": lambda: raw_token(payload(exp="[9999999999]")),
    "not valid yet": lambda: token(nbf=int(time.time()) + 3600),
    "a payload that is a list": lambda: raw_token('["sub","iat","exp"]'),
    "a payload that is text": lambda: raw_token("alice"),
    "a payload that is empty": lambda: raw_token(""),
    "a payload that nests deeply": lambda: raw_token(payload(more="[" * 1400 + "]" * 1400)),
    "a header that nests deeply": lambda: raw_token(payload(), header="[" * 2000),
    "a payload that repeats a key": lambda: raw_token(payload(name='"Al","sub":"alice"')),
    "an id that is not UTF-8": lambda: raw_token(payload(sub='"\ud800"')),
    "a critical header": lambda: raw_token(payload(), header='{"alg":"HS256","crit":["exp"],"exp":1}'),
    "a detached payload": lambda: raw_token(payload(), header='{"alg":"HS256","crit":["b64"],"b64":false}'),
    "an algorithm that is a list": lambda: raw_token(payload(), header='{"alg":["HS256"]}'),
    "RS256": lambda: raw_token(payload(), header='{"alg":"RS256"}'),
    "a token in a token": lambda: raw_token(f'"{token()}"'),
    "a space after the token": lambda: f"{token()} ",
    "a token in bytes that are none": lambda: token() + "ÿ",
    "the HMAC of an id with a NUL": lambda: hmac_proof("alice\0"),
    "the HMAC of an id with a line feed": lambda: hmac_proof("alice\n"),
    "the HMAC of no id": lambda: hmac_proof(""),
    "the HMAC of another id in other letters": lambda: f"HMAC {hmac_of('alice')} Alice",
    "a space after the id": lambda: f"HMAC {hmac_of('alice')} alice ",
    "another word before the HMAC": lambda: f"hmac {hmac_of('alice')} alice",
}


def hmac_of(user_id: str, secret: str = HMAC_SECRET) -> str:
    """Return the HMAC of a user id, as servers compute it for other chats."""
    return hmac.new(secret.encode(), user_id.encode(), hashlib.sha256).hexdigest()


def hmac_proof(user_id: str, secret: str = HMAC_SECRET) -> str:
    """Return the proof that the host page makes of it."""
    return f"HMAC {hmac_of(user_id, secret)} {user_id}"


@pytest.mark.parametrize("invalid", INVALID)
def test_an_invalid_proof_is_401(alice: Page, shop: Website, invalid: str) -> None:
    assert identifies(alice, quote(INVALID[invalid]())).status_code == 401


@pytest.mark.parametrize("proof", ["alice", "HMAC \\ud800 alice", "\\ud800.\\ud800.\\ud800", "\\u0000"])
def test_an_invalid_proof_is_401_in_the_api(alice: Page, shop: Website, proof: str) -> None:
    Website.objects.update(identity_required=True)
    body = f'{{"content": "Hello", "website": "shop", "identity": "{proof}"}}'
    assert alice.post("/api/messages/", body, content_type="application/json").status_code in {401, 422}


def test_an_invalid_proof_leaves_a_customer_anonymous(alice: Page, shop: Website) -> None:
    says(Page(), "Alice's own", token("alice"))
    invalid = token("alice", secret="x" * 64)
    assert says(alice, "Let me in", invalid).status_code == 204
    assert texts(alice.get(PATH)) == ["Let me in"]
    assert not Conversation.objects.order_by("pk")[1].is_verified
    Website.objects.update(identity_required=True)
    assert says(alice, "Let me in", invalid).status_code == 401
    assert Contact.objects.get().sub == "alice"


def test_a_website_without_secrets_accepts_no_proof(alice: Page) -> None:
    Website.objects.create(key="shop", name="Shop", accepts_hmac=True)
    for proof in (unsigned(), token(secret="x" * 64), hmac_proof("alice", "")):
        assert identifies(alice, proof).status_code == 401


def test_an_hmac_is_accepted_and_shown_as_the_weaker_proof(alice: Page, shop: Website, bobs: Page) -> None:
    says(alice, "Hello", f"HMAC {hmac_of('user 7').upper()} user 7")
    contact = Contact.objects.get()
    assert (contact.sub, contact.proof) == ("user 7", Contact.Proof.HMAC)
    page = bobs.get(f"/inbox/{Conversation.objects.get().pk}/").content.decode()
    assert "Verified by Fern &amp; Fired as user 7" in page
    assert "does not expire" in page


def test_where_identity_is_required_each_message_needs_a_proof(alice: Page, shop: Website) -> None:
    shop.identity_required = True
    shop.save()
    assert says(alice, "Hello").status_code == 401
    assert says(alice, "Hello", token()).status_code == 204
    assert says(alice, "The cookie alone will not do").status_code == 401
    uuid = str(Conversation.objects.get().uuid)

    def api(**body: str) -> Any:
        return alice.post("/api/messages/", json.dumps(body), content_type="application/json")

    assert api(content="New", website="shop").status_code == 401
    assert api(content="On", conversation=uuid).status_code == 401
    assert api(content="On", conversation=uuid, identity=token("mallory", secret="m" * 64)).status_code == 401
    assert api(content="On", conversation=uuid, identity=token()).status_code == 200
    assert Conversation.objects.get().messages.count() == 2


def test_where_identity_is_required_the_page_has_a_composer_only_if_a_proof_can_come(
    alice: Page, mallory: Page, shop: Website
) -> None:
    shop.identity_required = True
    shop.save()
    shop.origins.create(origin="https://shop.example")
    embedded = f"{PATH}?host=https://shop.example"

    def composer(page: Page, path: str = embedded, proof: str = "") -> bool:
        html = page.get(path, headers={"X-Identity": proof} if proof else {}).content.decode()
        hidden = {
            part: bool(re.search(rf"{part if part[0] == '<' else '<p ' + part}[^>]* hidden>", html))
            for part in ('class="notice sign-in"', "<chat-composer")
        }
        assert "Please sign in to Fern &amp; Fired to send a message." in html
        assert len(set(hidden.values())) == 2, "either the sentence or the composer"
        assert ("<p hidden>How can we help?" in html) == hidden["<chat-composer"], "the greeting fits"
        assert '<noscript><p class="notice"><a' not in html, "no way to write without a script, which sends the proof"
        return not hidden["<chat-composer"]

    for path in (PATH, embedded, f"{PATH}?write=1"):
        assert not composer(alice, path)
    assert composer(alice, proof=token())
    message = {"content": "Hello", "client_id": str(uuid4())}
    for path in (embedded, PATH):
        url = path.replace(PATH, f"{PATH}messages/")
        assert alice.htmx(url, message, **{"X-Identity": token()}).status_code == 204
    assert composer(alice), "she was identified before"
    assert not composer(alice, proof=token(secret="x" * 64))
    for path in (PATH, f"{PATH}?write=1", f"{PATH}?host=https://evil.example"):
        assert not composer(alice, path), "no page around it can send a proof"
    assert not composer(mallory)


def test_the_api_does_not_continue_the_conversation_of_another_customer(alice: Page, shop: Website) -> None:
    says(alice, "Alice's own", token("alice"))
    uuid = str(Conversation.objects.get().uuid)
    body = {"content": "Nora's", "conversation": uuid, "identity": token("nora")}
    alice.post("/api/messages/", json.dumps(body), content_type="application/json")
    assert Conversation.objects.order_by("pk")[0].messages.count() == 1


def test_an_email_without_proof_gives_no_access_and_is_marked_as_not_verified(
    mallory: Page, shop: Website, bobs: Page
) -> None:
    says(Page(), "Alice's own", token(email="alice@example.com"))
    mallory.htmx(f"{PATH}messages/", {"content": "It is me", "email": "alice@example.com"})
    assert texts(mallory.get(PATH)) == ["It is me"]
    hers, his = Conversation.objects.order_by("pk")
    about, _, same_address = bobs.get(f"/inbox/{hers.pk}/about/").content.decode().partition("Same e-mail address")
    assert "not verified" not in about
    assert "not verified" in same_address, "what is said to be from her"
    about, _, same_address = bobs.get(f"/inbox/{his.pk}/about/").content.decode().partition("Same e-mail address")
    assert "alice@example.com" in about
    assert "not verified" in about
    assert "Alice&#x27;s own" not in about
    assert "not verified" in same_address


def test_a_proven_name_and_email_are_not_replaced_by_what_the_customer_says(alice: Page, shop: Website) -> None:
    details = {"name": "The boss", "email": "boss@example.com"}
    for proof in (token(name="Alice", email="alice@example.com"), hmac_proof("alice-7"), ""):
        headers = {"X-Identity": proof} if proof else {}
        alice.post(f"{PATH}messages/", {"content": "Hello", **details}, headers=headers)
    body = {"content": "Hello", "conversation": str(Conversation.objects.get().uuid), **details}
    alice.post("/api/messages/", json.dumps(body), content_type="application/json")
    found = Conversation.objects.get()
    assert found.messages.count() == 4
    assert (found.customer_name, found.customer_email) == ("Alice", "alice@example.com")


def test_a_name_that_no_proof_contains_is_marked_as_not_verified(alice: Page, shop: Website, bobs: Page) -> None:
    alice.htmx(f"{PATH}messages/", {"content": "Hello", "name": "The boss"})
    identifies(alice, hmac_proof("alice-7"))
    about = f"/inbox/{Conversation.objects.get().pk}/about/"
    assert "not verified" in bobs.get(about).content.decode().split("</h2>")[0]
    identifies(alice, token(name="Alice"))
    says(alice, "Again", token(name="Alice"))
    assert "not verified" not in bobs.get(about).content.decode()


def test_agents_see_the_earlier_conversations_of_the_same_verified_customer(shop: Website, bobs: Page) -> None:
    says(Page(), "The first", token())
    phone = Page()
    says(phone, "The second")
    identifies(phone, token())
    first, second = Conversation.objects.order_by("pk")
    about = bobs.get(f"/inbox/{second.pk}/about/").content.decode()
    assert "The first" in about
    assert f'href="/inbox/{first.pk}/"' in about


def test_proofs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, alice: Page, shop: Website) -> None:
    compared = []
    right = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(a) or right(a, b))  # type: ignore[func-returns-value]
    identifies(alice, f"HMAC {'0' * 64} alice")
    assert len(compared) == 2
    compared.clear()
    identifies(alice, token(secret="x" * 64))
    assert len(compared) == 2


def test_an_invalid_name_or_email_does_not_make_a_token_invalid(alice: Page, shop: Website) -> None:
    proof = token(name="A" * 200, email=["alice@example.com"], aud="shop")
    assert says(alice, "Hello", proof).status_code == 204
    contact = Contact.objects.get()
    assert (contact.name, contact.email) == ("A" * 80, "")


def test_ids_that_differ_in_anything_are_two_customers(shop: Website) -> None:
    for sub in ("Ab3", "aB3", "José", "Jose", "Jose\N{COMBINING ACUTE ACCENT}", "Jose "):
        says(Page(), f"Hello from {sub}", token(sub))
    assert Contact.objects.count() == 6
    device = Page()
    identifies(device, token("aB3"))
    assert texts(device.get(PATH)) == ["Hello from aB3"]


def test_agents_see_the_kind_of_the_latest_proof(alice: Page, shop: Website, bobs: Page) -> None:
    says(alice, "Hello", token("7"))
    about = f"/inbox/{Conversation.objects.get().pk}/about/"
    assert "does not expire" not in bobs.get(about).content.decode()
    says(alice, "Again", hmac_proof("7"))
    assert "does not expire" in bobs.get(about).content.decode()


CLIENT_ID = "5d5d3a41-3a5b-4a0e-8f6e-0d8a8f6c1f00"


def test_knowing_a_verified_customers_message_gives_no_access(alice: Page, mallory: Page, shop: Website) -> None:
    body = {"content": "Lost on its way", "client_id": CLIENT_ID}
    alice.htmx(f"{PATH}messages/", body, **{"X-Identity": token("alice")})
    for proof in (token("mallory"), ""):
        answer = mallory.htmx(f"{PATH}messages/", body, **{"X-Identity": proof, "X-Keep": "yes"})
        assert answer.status_code == 409
        assert "X-Secret" not in answer
    again = Page().htmx(f"{PATH}messages/", body, **{"X-Identity": token("alice"), "X-Keep": "yes"})
    assert again["X-Secret"] == Conversation.objects.get().uuid.hex


def test_knowing_a_message_gives_no_access_on_another_website_nor_after_sign_out(
    alice: Page, mallory: Page, shop: Website
) -> None:
    body = {"content": "Hello", "client_id": CLIENT_ID}
    alice.htmx(f"{PATH}messages/", body)
    assert mallory.htmx("/chat/messages/", body, **{"X-Keep": "yes"}).status_code == 409
    left = renew_secret(conversation=Conversation.objects.get())
    answer = mallory.htmx(f"{PATH}messages/", body, **{"X-Keep": "yes"})
    assert answer["X-Secret"] != left.uuid.hex
    assert texts(mallory.get(PATH)) == ["Hello"]
    assert Conversation.objects.count() == 2


def test_a_retry_of_a_later_message_gives_no_access(alice: Page, mallory: Page, shop: Website) -> None:
    says(alice, "The first")
    body = {"content": "The second", "client_id": CLIENT_ID}
    alice.htmx(f"{PATH}messages/", body)
    assert alice.htmx(f"{PATH}messages/", body).status_code == 204
    assert mallory.htmx(f"{PATH}messages/", body).status_code == 409


def test_too_many_identities_are_429(alice: Page, shop: Website, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "identities of one address": (1, 60)}
    assert identifies(alice, token()).status_code == 204
    assert identifies(alice, token()).status_code == 429


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hmac_secret": HMAC_SECRET},
        {"identity_secret": SECRET, "accepts_tokens": False},
        {"accepts_hmac": True, "identity_secret": SECRET, "accepts_tokens": False},
    ],
)
def test_identity_cannot_be_required_while_no_proof_can_be_valid(settings: dict[str, Any]) -> None:
    website = Website(name="Shop", key="shop", identity_required=True, **settings)
    with pytest.raises(ValidationError, match="kind of proof"):
        website.full_clean()


def test_a_new_website_accepts_tokens_only(alice: Page) -> None:
    Website.objects.create(key="shop", name="Shop", identity_secret=SECRET, hmac_secret=HMAC_SECRET)
    assert identifies(alice, token()).status_code == 204
    assert identifies(alice, hmac_proof("alice")).status_code == 401


def test_a_kind_of_proof_that_is_switched_off_is_refused(alice: Page, shop: Website) -> None:
    Website.objects.update(accepts_tokens=False)
    assert identifies(alice, token()).status_code == 401
    assert identifies(alice, hmac_proof("alice")).status_code == 204


def rewritten(token: str) -> str:
    """Return a token as an HMAC proof: HS256 is the HMAC of the token's first two parts."""
    signing_input, _, signature = token.rpartition(".")
    return f"HMAC {base64.urlsafe_b64decode(signature + '==').hex()} {signing_input}"


@pytest.mark.parametrize("rotations", [0, 1, 2])
@pytest.mark.parametrize("website", ["shop", "legacy"])
def test_an_expired_token_is_not_a_valid_hmac(
    alice: Page, request: pytest.FixtureRequest, website: str, rotations: int
) -> None:
    shop = request.getfixturevalue(website)
    expired = token("42", exp=int(time.time()) - 600)
    assert len(rewritten(expired)) < 200
    for _ in range(rotations):
        shop.rotate_identity_secret()
    for proof in (expired, rewritten(expired)):
        assert identifies(alice, proof).status_code == 401


def as_token(user_id: str, secret: str) -> str:
    """Return the token that the HMAC of such an id makes."""
    signature = bytes.fromhex(hmac_of(user_id, secret))
    return f"{user_id}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_the_hmac_of_an_id_that_its_owner_chose_is_not_a_token(alice: Page, shop: Website) -> None:
    now = int(time.time())
    chosen = raw_token(f'{{"sub":"1","iat":{now},"exp":{now + 600}}}').rpartition(".")[0]
    for secret in (HMAC_SECRET, OLD_HMAC_SECRET):
        assert identifies(alice, as_token(chosen, secret)).status_code == 401
    assert identifies(alice, hmac_proof(chosen)).status_code == 401


@pytest.mark.parametrize("user_id", ["john.doe", "a.b.c", "eyJh.bob", "eyJhbGciOiJIUzI1NiJ9", "Zoë 🌱", "x" * 200])
def test_ids_that_people_choose_are_accepted_as_hmac(alice: Page, shop: Website, user_id: str) -> None:
    assert says(alice, "Hello", quote(hmac_proof(user_id))).status_code == 204
    assert Contact.objects.get().sub == user_id


def test_a_migrated_website_accepts_what_it_accepted_before(alice: Page, legacy: Website) -> None:
    for secret in (SECRET, OLD_SECRET):
        assert identifies(alice, token(secret=secret)).status_code == 204
        assert identifies(alice, hmac_proof("alice", secret)).status_code == 204
    assert legacy.shares_secret


def test_a_migrated_website_ends_the_common_secret_by_rotating_the_one_of_tokens(alice: Page, legacy: Website) -> None:
    now = int(time.time())
    chosen = raw_token(f'{{"sub":"1","iat":{now},"exp":{now + 600}}}').rpartition(".")[0]
    legacy.rotate_identity_secret()
    assert legacy.shares_secret
    assert identifies(alice, token()).status_code == 204
    legacy.rotate_identity_secret()
    assert not legacy.shares_secret
    assert identifies(alice, as_token(chosen, SECRET)).status_code == 401
    assert identifies(alice, hmac_proof("alice", SECRET)).status_code == 204


def test_a_secret_that_signed_user_ids_never_signs_tokens_again(alice: Page, legacy: Website) -> None:
    with pytest.raises(ValidationError, match="share a secret"):
        legacy.rotate_hmac_secret()
    legacy.accepts_tokens = False
    legacy.save()
    assert legacy.rotate_hmac_secret() == legacy.hmac_secret
    legacy.accepts_tokens = True
    legacy.save()
    assert identifies(alice, hmac_proof("alice", SECRET)).status_code == 204
    assert identifies(alice, token()).status_code == 401


def test_a_website_without_a_secret_accepts_no_hmac_after_the_migration() -> None:
    website = Website.objects.create(key="shop", name="Shop")
    import_module("conversations.migrations.0006_separate_hmac_secret").keep_both_kinds(
        apps, SimpleNamespace(connection=connection)
    )
    website.refresh_from_db()
    assert (website.accepts_hmac, website.hmac_secret) == (False, "")
