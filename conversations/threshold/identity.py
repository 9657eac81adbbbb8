"""What a website's own server says of a customer, and whether it is the one who says it."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import jwt
from django.utils.translation import gettext as _

from conversations.models import Contact, Website
from conversations.models.contact import SUB_LENGTH, Claim
from conversations.models.writing import NAME_LENGTH, check_email, check_name

HEADER = "X-Identity"
"""Our own script sends the proof in it, with every request."""

LEEWAY = 60
"""Seconds that the clocks of two servers may differ."""

LONGEST = 4096
"""Characters of a proof; more is not looked at."""


class NotProven(Exception):
    """A proof is missing where one is needed, or does not hold. It says what to do."""


def proven(website: Website, proof: str | None) -> Claim | None:
    """Who the customer is by this proof, or None without one. Raises NotProven if it does not hold.

    A proof is a JSON Web Token (HS256, https://www.rfc-editor.org/rfc/rfc7519) with `sub`, `iat` and `exp`, and
    `email` and `name` if the server knows them; or, weaker because it never ends, `HMAC <hex> <user id>`, the
    HMAC-SHA256 of the user id alone. Both are signed with one of the website's two identity secrets.
    """
    if not proof:
        if website.identity_required:
            raise NotProven(_("Please sign in on the website first, then write to us."))
        return None
    if len(proof) <= LONGEST:
        for secret in website.secrets:
            claim = _by_hmac(proof, secret) if proof.startswith("HMAC ") else _by_token(proof, secret)
            if claim:
                return claim
    raise NotProven(_("We could not make sure who you are. Please load the page again."))


def believed(website: Website, proof: str | None) -> Claim | None:
    """The same for somebody who writes: with a proof that does not hold they are anonymous, like with none.

    Raises NotProven only where the website requires a proof.
    """
    try:
        return proven(website, proof)
    except NotProven:
        if website.identity_required:
            raise
        return None


def _by_token(token: str, secret: str) -> Claim | None:
    try:
        said: dict[str, Any] = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            leeway=LEEWAY,
            options={"require": ["sub", "iat", "exp"], "verify_aud": False},
        )
    except jwt.PyJWTError:
        return None
    name = _fit(check_name, str(said.get("name") or "")[:NAME_LENGTH])
    return _claim(str(said["sub"]), Contact.Proof.TOKEN, name, _fit(check_email, str(said.get("email") or "")))


def _fit(rule: Callable[[str], str], text: str) -> str:
    """The text, or "" if it cannot be kept: it is no reason to disbelieve the rest."""
    try:
        return rule(text)
    except ValueError:
        return ""


def _by_hmac(proof: str, secret: str) -> Claim | None:
    _word, digest, sub = proof.split(" ", 2) if proof.count(" ") >= 2 else ("", "", "")
    right = hmac.new(secret.encode(), sub.encode(errors="replace"), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(right.encode(), digest.lower().encode(errors="replace")):
        return None
    return _claim(sub, Contact.Proof.HMAC)


def _claim(sub: str, proof: Contact.Proof, name: str = "", email: str = "") -> Claim | None:
    storable = sub.strip() and "\x00" not in sub and sub.isprintable() and len(sub) <= SUB_LENGTH
    return Claim(sub, proof, name, email) if storable else None
