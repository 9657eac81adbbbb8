"""Checks of messages, names and e-mail addresses. Each returns the cleaned text or raises ValueError."""

import re

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from conversations.models.message import MAX_LENGTH
from conversations.models.visible_text import INVISIBLE, is_blank, one_line

NAME_LENGTH = 80
EMAIL_LENGTH = 254

EMAIL = re.compile(
    r"([a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]|[^\x00-\x7f\s])+@LABEL(\.LABEL)*".replace(
        "LABEL", r"(?![-])([a-zA-Z0-9-]|[^\x00-\x7f\s]){1,63}(?<![-])"
    )
)
"""What browsers take as an e-mail address, here with letters of all scripts (RFC 6531). Some mailboxes exist although
RFC 5322 forbids them, as a..b@docomo.ne.jp. https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address
"""

AROUND = re.compile(rf"\A{INVISIBLE.pattern}|{INVISIBLE.pattern}\Z")


def check_content(text: str, *, has_files: bool = False) -> str:
    """A message's text, unchanged. Raises ValueError if nothing in it is visible, or if it is too long or not storable.

    A message with files may be empty: then the text is "".
    """
    if is_blank(text):
        if has_files:
            return ""
        raise ValueError(_("The message is empty. Write something first."))
    if len(text) > MAX_LENGTH:
        error = ngettext(
            "The message has %(count)s character. Please send it in parts of %(most)s.",
            "The message has %(count)s characters. Please send it in parts of %(most)s.",
            len(text),
        )
        count, most = (number_format(number, force_grouping=True) for number in (len(text), MAX_LENGTH))
        raise ValueError(error % {"count": count, "most": most})
    return _check_storable(text)


def check_name(name: str) -> str:
    """A person's name on one line, or "" if nothing in it is visible.

    Characters that steer its direction or layout are taken out: see visible_text.py. Raises ValueError if it is too
    long or not storable.
    """
    name = one_line(_check_storable(name))
    if len(name) > NAME_LENGTH:
        # Translators: 80 characters
        raise ValueError(_("The name is longer than %(most)s characters.") % {"most": NAME_LENGTH})
    return name


def check_email(email: str) -> str:
    """An e-mail address, or "". Raises ValueError if browsers would not take it as one.

    What nobody sees is taken from its ends: addresses that are copied from other programs may have it there.
    """
    email = _check_storable(email).strip()
    if len(email) > EMAIL_LENGTH:
        # Translators: 254 characters
        raise ValueError(_("The e-mail address is longer than %(most)s characters.") % {"most": EMAIL_LENGTH})
    email = AROUND.sub("", email)
    if email and (INVISIBLE.search(email) or not EMAIL.fullmatch(email) or not _is_domain(email.rpartition("@")[2])):
        raise ValueError(_("This does not look like an e-mail address."))
    return email


def _is_domain(name: str) -> bool:
    try:
        name.encode("idna")  # as mails are sent
    except UnicodeError:
        return False
    return True


def _check_storable(text: str) -> str:
    try:
        text.encode()  # fails for a lone surrogate
    except UnicodeEncodeError:
        text = "\x00"
    if "\x00" in text:  # PostgreSQL cannot store it
        raise ValueError(_("The text has characters that cannot be stored."))
    return text
