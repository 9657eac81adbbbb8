"""Identity verification: what a website's own server says about a customer, and whether it signed that."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import jwt
from django.utils.translation import gettext as _

from conversations.models import Contact, Website
from conversations.models.contact import SUB_LENGTH, Claim
from conversations.models.validation import NAME_LENGTH, check_email, check_name

HEADER = "X-Identity"
"""The header in which the chat page sends the proof with each request."""

LEEWAY = 60
"""Seconds by which the clocks of two servers may differ."""

MAX_LENGTH = 4096
"""Characters of a proof. A longer one is invalid."""


class InvalidProof(Exception):
    """A proof is invalid, or missing where one is required. The message tells the customer what to do."""


def verify(website: Website, proof: str | None) -> Claim | None:
    """Return who the customer is by this proof, or None without a proof.

    A proof is a JSON Web Token (HS256, https://www.rfc-editor.org/rfc/rfc7519) with `sub`, `iat` and `exp`, and
    optionally `email` and `name`; or `HMAC <hex> <user id>`, the HMAC-SHA256 of the user id alone, which is weaker
    because it never expires. Either is signed with one of the website's two identity secrets.

    Raises InvalidProof if the proof is invalid, or missing where the website requires one.
    """
    if not proof:
        if website.identity_required:
            raise InvalidProof(_("Please sign in on the website first, then write to us."))
        return None
    if len(proof) <= MAX_LENGTH:
        for secret in website.secrets:
            claim = _verify_hmac(proof, secret) if proof.startswith("HMAC ") else _verify_token(proof, secret)
            if claim:
                return claim
    raise InvalidProof(_("We could not make sure who you are. Please load the page again."))


def verify_or_anonymous(website: Website, proof: str | None) -> Claim | None:
    """Return who the customer is by this proof, or None if the proof is missing or invalid.

    Raises InvalidProof instead of returning None where the website requires a proof.
    """
    try:
        return verify(website, proof)
    except InvalidProof:
        if website.identity_required:
            raise
        return None


def _verify_token(token: str, secret: str) -> Claim | None:
    try:
        payload: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            leeway=LEEWAY,
            options={"require": ["sub", "iat", "exp"], "verify_aud": False},
        )
    except jwt.PyJWTError:
        return None
    name = _valid_or_empty(check_name, str(payload.get("name") or "")[:NAME_LENGTH])
    email = _valid_or_empty(check_email, str(payload.get("email") or ""))
    return _storable_claim(str(payload["sub"]), Contact.Proof.TOKEN, name, email)


def _valid_or_empty(check: Callable[[str], str], text: str) -> str:
    """Return the checked text, or "" if it is invalid: an invalid name does not make the whole token invalid."""
    try:
        return check(text)
    except ValueError:
        return ""


def _verify_hmac(proof: str, secret: str) -> Claim | None:
    _scheme, signature, sub = proof.split(" ", 2) if proof.count(" ") >= 2 else ("", "", "")
    expected = hmac.new(secret.encode(), sub.encode(errors="replace"), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.lower().encode(errors="replace")):
        return None
    return _storable_claim(sub, Contact.Proof.HMAC)


def _storable_claim(sub: str, proof: Contact.Proof, name: str = "", email: str = "") -> Claim | None:
    """Return the claim, or None for a user id that is empty, too long or not printable."""
    is_storable = sub.strip() and sub.isprintable() and len(sub) <= SUB_LENGTH
    return Claim(sub, proof, name, email) if is_storable else None
