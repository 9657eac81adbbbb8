"""Django's admin: who sees which secret, and that no list, filter or search reveals one."""

import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.db import models
from django.test import RequestFactory

from conversations.actions import post_message
from conversations.models import Agent, Attachment, Contact, Conversation, Message, Token, Website
from conversations.models.contact import Claim
from tests.conftest import Page

pytestmark = pytest.mark.django_db

SECRETS: dict[type[models.Model], set[str]] = {
    Attachment: {"uuid", "file", "thumbnail", "original"},
    Contact: {"digest"},
    Conversation: {"uuid"},
    Message: {"client_id"},
    Token: {"digest"},
    User: {"password"},
    Website: {"identity_secret", "identity_secret_before", "hmac_secret", "hmac_secret_before"},
}
# No admin is registered for sessions. Who knows the client_id of a note may, as an agent, send the same note again.
NOT_SECRET = {"AgentProfile.picture", "Website.key", "Session.session_key", "SignIn.session_key", "DeskEntry.client_id"}

ADMINS = list(admin.site._registry.values())
MODELS = [model for name in ("conversations", "auth") for model in apps.get_app_config(name).get_models()]


def names(models_admin: Any) -> str:
    """Return the name of an admin's model, to tell tests apart."""
    return str(models_admin.opts.model_name)


def fields_of(entries: Any) -> set[str]:
    """Return the names in a list of the admin's options, which may be tuples or end in a lookup."""
    return {str(entry[0] if isinstance(entry, tuple) else entry).lstrip("^=@") for entry in entries}


def paths_to_secrets(model: type[models.Model], depth: int = 2) -> Iterator[str]:
    """Return the lookups of all secrets that the model reaches by so many relations."""
    yield from SECRETS.get(model, ())
    for field in model._meta.get_fields(include_hidden=True) if depth else ():
        if isinstance(field.related_model, type):
            yield from (f"{field.name}__{path}" for path in paths_to_secrets(field.related_model, depth - 1))


@pytest.fixture
def rows(bob: Agent) -> dict[type[models.Model], Any]:
    """One row of each model that has secrets."""
    website = Website.objects.create(
        key="shop",
        name="Fern & Fired",
        identity_secret="1d5ec2e7" * 8,
        identity_secret_before="1d01d01d" * 8,
        accepts_hmac=True,
        hmac_secret="a5ec2e70" * 8,
        hmac_secret_before="a01da01d" * 8,
    )
    claim = Claim("alice-7", Contact.Proof.TOKEN, "Alice")
    attachment = Attachment.from_upload("plan.txt", ContentFile(b"a plan"))
    message = post_message(
        content="Hello", website=website, claim=claim, client_id=uuid.uuid4(), attachments=[attachment]
    )
    Token.objects.issue(bob, "script", "READ")
    return {
        Attachment: Attachment.objects.get(uuid=attachment.uuid),
        Contact: Contact.objects.get(),
        Conversation: message.conversation,
        Message: message,
        Token: Token.objects.get(),
        User: User.objects.get(pk=bob.pk),
        Website: website,
    }


@pytest.fixture
def staff(client: Page) -> Page:
    """The browser of somebody who may view everything in the admin, and delete it."""
    carol = User.objects.create_user("carol", is_staff=True)
    carol.user_permissions.set(Permission.objects.filter(codename__regex="^(view|delete)_"))
    client.force_login(carol)
    return client


def test_each_field_that_may_be_a_secret_is_known_as_one() -> None:
    kinds = (models.CharField, models.TextField, models.UUIDField, models.FileField, models.BinaryField)
    for model in MODELS:
        for field in model._meta.local_fields:
            is_suspicious = isinstance(field, models.UUIDField | models.FileField) or (
                isinstance(field, kinds) and re.search("secret|digest|token|password|hash|sign|code$|key$", field.name)
            )
            if is_suspicious and f"{model.__name__}.{field.name}" not in NOT_SECRET:
                assert field.name in SECRETS.get(model, ()), f"{model.__name__}.{field.name}"


@pytest.mark.parametrize("model_admin", ADMINS, ids=names)
def test_no_secret_is_filtered_by_or_searched_or_listed(model_admin: Any) -> None:
    request = RequestFactory().get("/")
    request.user = User(is_superuser=True, is_active=True)
    options = ("list_display", "list_filter", "search_fields", "ordering", "list_editable", "autocomplete_fields")
    used = {name for option in options for name in fields_of(getattr(model_admin, option) or ())}
    used.add(model_admin.date_hierarchy or "")
    for path in paths_to_secrets(model_admin.model):
        assert not {name for name in used if name == path or name.startswith(f"{path}__")}
        for lookup in ("", "__exact", "__startswith", "__regex", "__gte", "__in", "__isnull"):
            assert not model_admin.lookup_allowed(path + lookup, "1", request), path + lookup
    filters = fields_of(model_admin.list_filter)
    others = [f"{name}__{rest}" for name in filters for rest in ("id__gt", "name", "startswith")]
    for lookup in [*others, "pk", "id__exact", "id__in"]:
        assert not model_admin.lookup_allowed(lookup, "1", request), lookup


@pytest.mark.parametrize("model", SECRETS, ids=lambda model: model.__name__)
def test_a_query_string_with_a_secret_is_refused_whether_it_is_right_or_wrong(
    staff: Page, rows: dict[type[models.Model], Any], model: type[models.Model]
) -> None:
    path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    for name in SECRETS[model]:
        value = str(getattr(rows[model], name))
        for lookup in (name, f"{name}__startswith"):
            answers = [staff.get(path, {lookup: guess}) for guess in (value, "zzz")]
            assert [answer.status_code for answer in answers] == [400, 400]
            assert answers[0].content == answers[1].content
        assert staff.get(path, {"_to_field": name}).status_code == 400
        found = staff.get(path, {"q": value}).context["cl"]
        assert not found.search_fields or not found.result_count


@pytest.mark.parametrize("model", SECRETS, ids=lambda model: model.__name__)
def test_no_page_of_the_admin_shows_a_secret(
    staff: Page, rows: dict[type[models.Model], Any], model: type[models.Model]
) -> None:
    path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    row = f"{path}{rows[model].pk}/"
    for address in ("/admin/", path, f"{path}?o=1.2.-3", f"{row}change/", f"{row}history/", f"{row}delete/"):
        answer = staff.get(address)
        assert answer.status_code == 200, address
        page = answer.content.decode().replace("-", "")
        for owner, fields in SECRETS.items():
            for name in fields:
                secret = str(getattr(rows[owner], name)).replace("-", "")
                assert not secret or secret not in page, f"{owner.__name__}.{name} on {address}"


@pytest.mark.parametrize("model_admin", ADMINS, ids=names)
def test_the_filters_of_each_list_work(admin_client: Page, model_admin: Any) -> None:
    path = f"/admin/{model_admin.opts.app_label}/{model_admin.opts.model_name}/"
    page = admin_client.get(path)
    assert page.status_code == 200
    changelist = page.context["cl"]
    for choice in (choice for spec in changelist.filter_specs for choice in spec.choices(changelist)):
        assert admin_client.get(path + choice["query_string"]).status_code == 200, choice


def test_each_kind_of_secret_is_rotated_and_logged(admin_client: Page, rows: dict[type[models.Model], Any]) -> None:
    website = rows[Website]
    for action, name in (("rotate_identity_secret", "identity_secret"), ("rotate_hmac_secret", "hmac_secret")):
        before = getattr(website, name)
        admin_client.post("/admin/conversations/website/", {"action": action, "_selected_action": [website.pk]})
        website.refresh_from_db()
        assert len(getattr(website, name)) == 64
        assert getattr(website, name) != before == getattr(website, f"{name}_before")
    history = admin_client.get(f"/admin/conversations/website/{website.pk}/history/").content.decode()
    assert "Changed identity secret." in history
    assert "Changed HMAC secret." in history


def test_a_common_secret_is_shown_and_cannot_be_rotated_for_hmac_alone(
    admin_client: Page, rows: dict[type[models.Model], Any]
) -> None:
    website = rows[Website]
    path, page = "/admin/conversations/website/", f"/admin/conversations/website/{website.pk}/change/"
    assert "share a secret" not in admin_client.get(page).content.decode()
    Website.objects.update(hmac_secret=website.identity_secret)
    assert "share a secret" in admin_client.get(page).content.decode()
    assert "⚠ signed tokens, HMAC of the user id" in admin_client.get(path).content.decode()
    refused = admin_client.post(
        path, {"action": "rotate_hmac_secret", "_selected_action": [website.pk]}, follow=True
    ).content.decode()
    assert "share a secret" in refused
    assert Website.objects.get(pk=website.pk).hmac_secret == website.identity_secret
    Website.objects.update(accepts_hmac=False)
    assert "share a secret" not in admin_client.get(page).content.decode()


def test_the_form_of_a_user_takes_the_addresses_that_browsers_take(admin_client: Page, bob: Agent) -> None:
    path = f"/admin/auth/user/{bob.pk}/change/"
    form = {"username": "bob", "date_joined_0": "2026-01-01", "date_joined_1": "12:00:00"}
    for address, is_taken in (("a..b@docomo.ne.jp", True), ("jürgen@example.de", True), ("a\u202eb@example.de", False)):
        assert admin_client.post(path, {**form, "email": address}).status_code == (302 if is_taken else 200)
        assert (User.objects.get(pk=bob.pk).email == address) is is_taken
