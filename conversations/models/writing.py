"""Rules for what people may write: whoever breaks one is told in a sentence."""

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from conversations.models.message import MAX_LENGTH

NAME_LENGTH = 80
EMAIL_LENGTH = 254


def check_content(text: str) -> str:
    """A message's text, exactly as it was written. Raises ValueError if it is empty, too long or not storable."""
    if not text.strip():
        raise ValueError("Write something first: the message is empty.")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"The message has {len(text):,} characters. Please send it in parts of {MAX_LENGTH:,}.")
    return _storable(text)


def check_name(name: str) -> str:
    """A person's name on one line, or "". Raises ValueError if it is too long or not storable."""
    name = " ".join(_storable(name).split())
    if len(name) > NAME_LENGTH:
        raise ValueError(f"The name is longer than {NAME_LENGTH} characters.")
    return name


def check_email(email: str) -> str:
    """An e-mail address, or "". Raises ValueError if it is not one."""
    email = _storable(email).strip()
    try:
        if email:
            validate_email(email)
    except ValidationError as error:
        raise ValueError("This does not look like an e-mail address.") from error
    if len(email) > EMAIL_LENGTH:
        raise ValueError(f"The e-mail address is longer than {EMAIL_LENGTH} characters.")
    return email


def _storable(text: str) -> str:
    try:
        text.encode()  # half a surrogate pair is not text in any encoding
    except UnicodeEncodeError:
        text = "\x00"
    if "\x00" in text:  # PostgreSQL stores no NUL
        raise ValueError("The text has characters that cannot be stored.")
    return text
