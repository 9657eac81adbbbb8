"""Checks of messages, names and e-mail addresses. Each returns the cleaned text or raises ValueError."""

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from conversations.models.message import MAX_LENGTH

NAME_LENGTH = 80
EMAIL_LENGTH = 254


def check_content(text: str, *, has_files: bool = False) -> str:
    """A message's text, unchanged. Raises ValueError if it is empty, too long or not storable.

    A message with files may be empty: then the text is "".
    """
    if not text.strip():
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
    """A person's name on one line, or "". Raises ValueError if it is too long or not storable."""
    name = " ".join(_check_storable(name).split())
    if len(name) > NAME_LENGTH:
        # Translators: 80 characters
        raise ValueError(_("The name is longer than %(most)s characters.") % {"most": NAME_LENGTH})
    return name


def check_email(email: str) -> str:
    """An e-mail address, or "". Raises ValueError if it is not one."""
    email = _check_storable(email).strip()
    try:
        if email:
            validate_email(email)
    except ValidationError as error:
        raise ValueError(_("This does not look like an e-mail address.")) from error
    if len(email) > EMAIL_LENGTH:
        # Translators: 254 characters
        raise ValueError(_("The e-mail address is longer than %(most)s characters.") % {"most": EMAIL_LENGTH})
    return email


def _check_storable(text: str) -> str:
    try:
        text.encode()  # fails for a lone surrogate
    except UnicodeEncodeError:
        text = "\x00"
    if "\x00" in text:  # PostgreSQL cannot store it
        raise ValueError(_("The text has characters that cannot be stored."))
    return text
