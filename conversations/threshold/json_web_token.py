"""JSON Web Tokens that prove who a customer is. This is imported when the first one comes: it takes 45 ms and 2 MB."""

import json
from typing import Any

import jwt

LEEWAY = 60
"""Seconds by which the clocks of two servers may differ."""

MAX_LIFETIME = 366 * 24 * 3600
"""Seconds between a token's `iat` and `exp`. A token that is valid for longer is invalid: it would hardly expire."""


class _Decoder(jwt.PyJWT):
    """PyJWT, which also refuses a payload that repeats a key: JSON made by hand may let a name add another `sub`."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        payload = super()._decode_payload(decoded)
        json.loads(decoded["payload"], object_pairs_hook=_check_unique)
        return payload

    def _validate_claims(self, payload: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._validate_claims(payload, *args, **kwargs)
        if int(payload["exp"]) - int(payload["iat"]) > MAX_LIFETIME:
            raise jwt.InvalidTokenError("The token is valid for too long")


def _check_unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise jwt.DecodeError("A key is repeated")


_decoder = _Decoder()


def decode(token: str, secret: str) -> dict[str, Any] | None:
    """Return the claims of a token, with `sub`, `iat` and `exp`, or None if it is invalid."""
    try:
        return _decoder.decode(
            token,
            secret,
            algorithms=["HS256"],
            leeway=LEEWAY,
            options={"require": ["sub", "iat", "exp"], "verify_aud": False},
        )
    except (jwt.PyJWTError, ValueError):  # ValueError: text that cannot be encoded
        return None


def is_signing_input(text: str) -> bool:
    """Return whether this is the part of a token that its signature is made of."""
    try:
        jwt.get_unverified_header(f"{text}.")
    except (jwt.DecodeError, ValueError):
        return False
    except jwt.InvalidTokenError:
        return True
    return True
