"""Rules for what people may write: whoever breaks one is told in a sentence."""

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from conversations.models.message import MAX_LENGTH

NAME_LENGTH = 80
EMAIL_LENGTH = 254


def check_content(text: str, *, has_files: bool = False) -> str:
    """A message's text, exactly as it was written. Raises ValueError if it is empty, too long or not storable.

    A message that has files needs no text: then it is "".
    """
    if not text.strip():
        if has_files:
            return ""
        raise ValueError(_("Write something first: the message is empty."))
    if len(text) > MAX_LENGTH:
        sentence = ngettext(
            "The message has %(count)s character. Please send it in parts of %(most)s.",
            "The message has %(count)s characters. Please send it in parts of %(most)s.",
            len(text),
        )
        count, most = (number_format(number, force_grouping=True) for number in (len(text), MAX_LENGTH))
        raise ValueError(sentence % {"count": count, "most": most})
    return _storable(text)


def check_name(name: str) -> str:
    """A person's name on one line, or "". Raises ValueError if it is too long or not storable."""
    name = " ".join(_storable(name).split())
    if len(name) > NAME_LENGTH:
        # Translators: 80 characters
        raise ValueError(_("The name is longer than %(most)s characters.") % {"most": NAME_LENGTH})
    return name


def check_email(email: str) -> str:
    """An e-mail address, or "". Raises ValueError if it is not one."""
    email = _storable(email).strip()
    try:
        if email:
            validate_email(email)
    except ValidationError as error:
        raise ValueError(_("This does not look like an e-mail address.")) from error
    if len(email) > EMAIL_LENGTH:
        # Translators: 254 characters
        raise ValueError(_("The e-mail address is longer than %(most)s characters.") % {"most": EMAIL_LENGTH})
    return email


def _storable(text: str) -> str:
    try:
        text.encode()  # half a surrogate pair is not text in any encoding
    except UnicodeEncodeError:
        text = "\x00"
    if "\x00" in text:  # PostgreSQL stores no NUL
        raise ValueError(_("The text has characters that cannot be stored."))
    return text
