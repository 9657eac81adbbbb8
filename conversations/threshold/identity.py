"""Identity verification: whether a website's own server has signed who the customer is."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _

from conversations.models import Contact, Website
from conversations.models.contact import SUB_LENGTH, Claim
from conversations.models.validation import NAME_LENGTH, check_email, check_name
from conversations.models.visible_text import is_blank, one_line

HEADER = "X-Identity"
"""The header in which the chat page sends the proof with each request."""

MAX_LENGTH = 4096
"""Characters of a proof. A longer one is invalid."""


class InvalidProof(Exception):
    """A proof is invalid, or missing where one is required. The message tells the customer what to do."""


def verify(website: Website, proof: str | None) -> Claim | None:
    """Return who the customer is by this proof, or None without a proof.

    A proof is a JSON Web Token (HS256, https://www.rfc-editor.org/rfc/rfc7519) with `sub`, `iat` and `exp`, and
    optionally `email` and `name`; or `HMAC <hex> <user id>`, the HMAC-SHA256 of the user id alone, which is weaker
    because it never expires. Each kind has its own secrets: HS256 is the same HMAC, so that with a common secret
    the signature of one kind would be valid for the other.

    Raises InvalidProof if the proof is invalid, or missing although the website requires one.
    """
    if not proof:
        if website.identity_required:
            raise InvalidProof(_("Please sign in on the website first, then write to us."))
        return None
    if len(proof) <= MAX_LENGTH:
        is_hmac = proof.startswith("HMAC ")
        check, secrets = (_verify_hmac, website.hmac_secrets) if is_hmac else (_verify_token, website.token_secrets)
        for secret in secrets:
            if claim := check(proof, secret):
                return claim
    raise InvalidProof(_("We could not confirm your identity. Please reload the page."))


def verify_or_anonymous(website: Website, proof: str | None) -> Claim | None:
    """Return who the customer is by this proof, or None if the proof is missing or invalid.

    Raises InvalidProof instead of returning None if the website requires a proof.
    """
    try:
        return verify(website, proof)
    except InvalidProof:
        if website.identity_required:
            raise
        return None


def _verify_token(token: str, secret: str) -> Claim | None:
    from conversations.threshold import json_web_token  # takes 45 ms, and many servers never need it

    payload = json_web_token.decode(token, secret)
    if payload is None:
        return None
    name = _valid_or_empty(lambda text: check_name(one_line(text)[:NAME_LENGTH]), payload.get("name"))
    email = _valid_or_empty(check_email, payload.get("email"))
    return _storable_claim(payload["sub"], Contact.Proof.TOKEN, name, email)


def _valid_or_empty(check: Callable[[str], str], value: Any) -> str:
    """Return the checked text, or "" if it is invalid: an invalid name does not make the whole token invalid."""
    try:
        return check(value) if isinstance(value, str) else ""
    except ValueError:
        return ""


def _verify_hmac(proof: str, secret: str) -> Claim | None:
    _scheme, signature, sub = proof.split(" ", 2) if proof.count(" ") >= 2 else ("", "", "")
    expected = hmac.new(secret.encode(), sub.encode(errors="replace"), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.lower().encode(errors="replace")):
        return None
    # The signed part of a token as a user id would let the token outlive its `exp`, as an HMAC proof. Websites from
    # before each kind had its own secrets may use one for both.
    from conversations.threshold.json_web_token import is_signing_input

    return None if is_signing_input(sub) else _storable_claim(sub, Contact.Proof.HMAC)


def _storable_claim(sub: str, proof: Contact.Proof, name: str = "", email: str = "") -> Claim | None:
    """Return the claim, or None for a user id that is empty, too long or not printable."""
    is_storable = not is_blank(sub) and sub.isprintable() and len(sub) <= SUB_LENGTH
    return Claim(sub, proof, name, email) if is_storable else None
