"""Origins and host names as browsers serialize them. Used by websites in the database, and by the settings."""

import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import idna

ORIGIN = re.compile(r"([a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]+\])(:\d{1,5})?")
"""A host and an optional port, as browsers serialize them: internationalized names in their xn-- form."""

NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
"""A label that makes a host an IPv4 address (https://url.spec.whatwg.org/#ends-in-a-number-checker)."""

MAX_LABEL = 63
"""Characters of a label, which in its xn-- form has no fewer (RFC 1035)."""


def serialize_origin(text: str) -> str:
    """Return an origin as browsers serialize it. Raises ValueError if `text` is not an origin."""
    parts = urlsplit(text.strip().lower().rstrip("/"))
    port = parts.port
    netloc = to_ascii(parts.netloc)
    name = netloc.removesuffix(f":{port}")
    if parts.scheme not in {"http", "https"} or not ORIGIN.fullmatch(netloc) or not name or port == 0:
        raise ValueError(text)
    if parts.path or parts.query or parts.fragment:
        raise ValueError(text)
    default_port = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{_normalize_host(name)}" + (f":{port}" if port and port != default_port else "")


def to_ascii(netloc: str) -> str:
    """Return a host and port in ASCII, as in `xn--bcher-kva.example` for `bücher.example`. May raise ValueError.

    As in browsers (https://url.spec.whatwg.org/#idna), whose rule knows more names than the codec "idna" of Python:
    `straße` is not `strasse`, and there are names of emoji.
    """
    if netloc.isascii():
        return netloc
    host, colon, port = netloc.partition(":")
    labels = idna.uts46_remap(host, std3_rules=False).split(".")
    return ".".join(_ascii_label(label) for label in labels) + colon + port


def _ascii_label(label: str) -> str:
    if label.isascii():
        return label
    if label.startswith("xn--") or len(label) > MAX_LABEL:  # it takes quadratic time to encode
        raise ValueError(label)
    return f"xn--{label.encode('punycode').decode()}"


def _normalize_host(name: str) -> str:
    """Normalize an IP address; leave a name unchanged. Browsers parse each host that ends in a number as IPv4."""
    if ":" in name:
        return f"[{IPv6Address(name[1:-1]).compressed}]"
    return str(IPv4Address(name)) if NUMBER.fullmatch(name.rpartition(".")[2]) else name
