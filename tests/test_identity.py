"""Identity: a website's own server vouches for its customers, and nobody else can."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.core.exceptions import ValidationError

from conversations.actions import renew_secret
from conversations.models import Contact, Conversation, Website
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db
SECRET, OLD_SECRET = "s" * 64, "o" * 64
PATH = "/chat/shop/"


@pytest.fixture
def shop() -> Website:
    """A website with two secrets that hold."""
    return Website.objects.create(
        key="shop", name="Fern & Fired", identity_secret=SECRET, identity_secret_before=OLD_SECRET
    )


def token(sub: str = "alice-7", secret: str = SECRET, **more: Any) -> str:
    """What the shop's server signs."""
    now = int(time.time())
    return jwt.encode({"sub": sub, "iat": now, "exp": now + 600, **more}, secret, algorithm="HS256")


def says(page: Page, text: str, proof: str | None = None) -> Any:
    """Write from the chat page, with a proof."""
    return page.htmx(f"{PATH}messages/", {"content": text}, **({"X-Identity": proof} if proof else {}))


def identifies(page: Page, proof: str) -> Any:
    """What the page asks when the host says who the customer is."""
    return page.htmx(f"{PATH}identify/", {}, **{"X-Identity": proof})


def test_a_verified_customer_has_their_conversation_on_every_device(shop: Website) -> None:
    desk, phone = Page(), Page()
    says(desk, "From my desk", token(name="Alice", email="alice@example.com"))
    assert identifies(phone, token()).status_code == 204
    assert texts(phone.get(PATH)) == ["From my desk"]
    conversation = Conversation.objects.get()
    assert conversation.is_verified
    assert (conversation.customer_name, conversation.customer_email) == ("Alice", "alice@example.com")


def test_nobody_who_has_not_written_gets_a_row(alice: Page, shop: Website) -> None:
    assert identifies(alice, token()).status_code == 204
    assert not Contact.objects.exists()
    assert not Conversation.objects.exists()


def test_what_a_browser_wrote_before_signing_in_comes_along(alice: Page, shop: Website) -> None:
    says(alice, "Before")
    identifies(alice, token(name="Alice"))
    assert texts(alice.get(PATH)) == ["Before"]
    assert str(Conversation.objects.get()) == "Alice"
    other = Page()
    identifies(other, token())
    assert texts(other.get(PATH)) == ["Before"]


def test_another_customer_in_the_same_browser_sees_nothing_of_the_first(alice: Page, shop: Website) -> None:
    says(alice, "Alice's own", token("alice"))
    identifies(alice, token("nora"))
    assert texts(alice.get(PATH)) == []
    says(alice, "From Nora", token("nora"))
    assert texts(alice.get(PATH)) == ["From Nora"]
    assert Conversation.objects.count() == 2


def test_a_message_with_another_ones_proof_starts_a_conversation_of_theirs(alice: Page, shop: Website) -> None:
    says(alice, "Alice's own", token("alice"))
    says(alice, "From Nora", token("nora"))
    assert [list(one.messages.values_list("content", flat=True)) for one in Conversation.objects.order_by("pk")] == [
        ["Alice's own"],
        ["From Nora"],
    ]


def test_earlier_conversations_are_there_to_go_on_with(shop: Website) -> None:
    desk, phone, mallory = Page(), Page(), Page()
    says(desk, "The first", token())
    says(phone, "The second")
    identifies(phone, token())
    assert texts(phone.get(PATH)) == ["The second"]
    first = Conversation.objects.order_by("pk")[0]
    assert "The first" in phone.get(PATH).content.decode()
    assert phone.post(f"{PATH}resume/", {"conversation": first.pk}).status_code == 302
    assert texts(phone.get(PATH)) == ["The first"]
    says(mallory, "Mine")
    assert mallory.post(f"{PATH}resume/", {"conversation": first.pk}).status_code == 404
    assert texts(mallory.get(PATH)) == ["Mine"]


def test_both_secrets_hold_until_the_older_one_is_gone(alice: Page, shop: Website) -> None:
    assert identifies(alice, token(secret=OLD_SECRET)).status_code == 204
    shop.identity_secret_before = ""
    shop.save()
    assert identifies(alice, token(secret=OLD_SECRET)).status_code == 401
    assert identifies(alice, token()).status_code == 204


def unsigned() -> str:
    """A token that says it needs no signature."""
    now = int(time.time())
    return jwt.encode({"sub": "alice", "iat": now, "exp": now + 600}, "", algorithm="none")


WRONG: dict[str, Callable[[], str]] = {
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
    "no such user id": lambda: f"HMAC {signed('alice')} nora",
    "half of it": lambda: f"HMAC {signed('alice')}",
    "letters that are none": lambda: "HMAC ÿÿ alice",
}


def signed(user_id: str, secret: str = SECRET) -> str:
    """The plain signature that other chats' customers have already."""
    return hmac.new(secret.encode(), user_id.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("wrong", WRONG)
def test_a_proof_that_does_not_hold_leaves_them_anonymous_and_401_where_it_is_required(
    alice: Page, shop: Website, wrong: str
) -> None:
    says(Page(), "Alice's own", token("alice"))
    proof = WRONG[wrong]().encode().decode("latin1")
    assert identifies(alice, proof).status_code == 401
    assert texts(alice.get(PATH)) == []
    assert says(alice, "Let me in", proof).status_code == 204
    assert texts(alice.get(PATH)) == ["Let me in"]
    assert not Conversation.objects.order_by("pk")[1].is_verified
    shop.identity_required = True
    shop.save()
    assert says(alice, "Let me in", proof).status_code == 401
    assert Contact.objects.get().sub == "alice"


def test_a_website_without_secrets_believes_nobody(alice: Page) -> None:
    Website.objects.create(key="shop", name="Shop")
    for proof in (unsigned(), token(secret="x" * 64), f"HMAC {signed('alice', '')} alice"):
        assert identifies(alice, proof).status_code == 401


def test_the_plain_signature_is_believed_and_marked_as_the_weaker_one(alice: Page, shop: Website, bobs: Page) -> None:
    says(alice, "Hello", f"HMAC {signed('user 7')} user 7")
    contact = Contact.objects.get()
    assert (contact.sub, contact.proof) == ("user 7", Contact.Proof.HMAC)
    page = bobs.get(f"/inbox/{Conversation.objects.get().pk}/").content.decode()
    assert "Verified by Fern &amp; Fired as user 7" in page
    assert "never ends" in page


def test_where_identity_is_required_every_write_needs_it(alice: Page, shop: Website) -> None:
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
    page = alice.get(PATH).content.decode()
    assert "Please sign in on Fern &amp; Fired to write." in page


def test_over_the_api_another_ones_conversation_is_not_gone_on_with(alice: Page, shop: Website) -> None:
    says(alice, "Alice's own", token("alice"))
    uuid = str(Conversation.objects.get().uuid)
    body = {"content": "Nora's", "conversation": uuid, "identity": token("nora")}
    alice.post("/api/messages/", json.dumps(body), content_type="application/json")
    assert Conversation.objects.order_by("pk")[0].messages.count() == 1


def test_an_email_that_somebody_only_says_shows_nothing_old_and_is_marked(
    mallory: Page, shop: Website, bobs: Page
) -> None:
    says(Page(), "Alice's own", token(email="alice@example.com"))
    mallory.htmx(f"{PATH}messages/", {"content": "It is me", "email": "alice@example.com"})
    assert texts(mallory.get(PATH)) == ["It is me"]
    hers, his = Conversation.objects.order_by("pk")
    assert "not verified" not in bobs.get(f"/inbox/{hers.pk}/").content.decode()
    page = bobs.get(f"/inbox/{his.pk}/").content.decode()
    assert "alice@example.com" in page
    assert "not verified" in page
    assert "Alice&#x27;s own" not in page.split('id="about"')[1]


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


def test_claims_that_cannot_be_kept_are_no_reason_to_disbelieve_the_rest(alice: Page, shop: Website) -> None:
    proof = token(name="A" * 200, email="alice@intranet", aud="shop")
    assert says(alice, "Hello", proof).status_code == 204
    contact = Contact.objects.get()
    assert (contact.name, contact.email) == ("A" * 80, "")


def test_ids_that_differ_in_anything_are_two_customers(shop: Website) -> None:
    for sub in ("Ab3", "aB3", "José", "Jose"):
        says(Page(), f"Hello from {sub}", token(sub))
    assert Contact.objects.count() == 4
    device = Page()
    identifies(device, token("aB3"))
    assert texts(device.get(PATH)) == ["Hello from aB3"]


def test_agents_see_which_proof_it_was_the_last_time(alice: Page, shop: Website, bobs: Page) -> None:
    says(alice, "Hello", token("7"))
    about = f"/inbox/{Conversation.objects.get().pk}/about/"
    assert "never ends" not in bobs.get(about).content.decode()
    says(alice, "Again", f"HMAC {signed('7')} 7")
    assert "never ends" in bobs.get(about).content.decode()


NAME = "5d5d3a41-3a5b-4a0e-8f6e-0d8a8f6c1f00"


def test_knowing_a_verified_customers_message_opens_nothing(alice: Page, mallory: Page, shop: Website) -> None:
    body = {"content": "Lost on its way", "client_id": NAME}
    alice.htmx(f"{PATH}messages/", body, **{"X-Identity": token("alice")})
    for proof in (token("mallory"), ""):
        answer = mallory.htmx(f"{PATH}messages/", body, **{"X-Identity": proof, "X-Keep": "yes"})
        assert answer.status_code == 409
        assert "X-Secret" not in answer
    again = Page().htmx(f"{PATH}messages/", body, **{"X-Identity": token("alice"), "X-Keep": "yes"})
    assert again["X-Secret"] == Conversation.objects.get().uuid.hex


def test_knowing_a_message_opens_nothing_on_another_website_nor_after_its_customer_has_left(
    alice: Page, mallory: Page, shop: Website
) -> None:
    body = {"content": "Hello", "client_id": NAME}
    alice.htmx(f"{PATH}messages/", body)
    assert mallory.htmx("/chat/messages/", body, **{"X-Keep": "yes"}).status_code == 409
    left = renew_secret(conversation=Conversation.objects.get())
    answer = mallory.htmx(f"{PATH}messages/", body, **{"X-Keep": "yes"})
    assert answer["X-Secret"] != left.uuid.hex
    assert texts(mallory.get(PATH)) == ["Hello"]
    assert Conversation.objects.count() == 2


def test_a_retry_of_a_later_message_opens_nothing(alice: Page, mallory: Page, shop: Website) -> None:
    says(alice, "The first")
    body = {"content": "The second", "client_id": NAME}
    alice.htmx(f"{PATH}messages/", body)
    assert alice.htmx(f"{PATH}messages/", body).status_code == 204
    assert mallory.htmx(f"{PATH}messages/", body).status_code == 409


def test_too_many_identities_are_told_to_wait(alice: Page, shop: Website, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "identities of one address": (1, 60)}
    assert identifies(alice, token()).status_code == 204
    assert identifies(alice, token()).status_code == 429


def test_identity_cannot_be_required_without_a_secret() -> None:
    website = Website(name="Shop", key="shop", identity_required=True)
    with pytest.raises(ValidationError, match="secret"):
        website.full_clean()
