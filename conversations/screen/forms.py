"""Forms of the customer's and the agents' pages; the rules are those of `models.validation`."""

from collections.abc import Callable
from functools import partial

from django import forms
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from conversations.models import Website
from conversations.models.message import MAX_ID
from conversations.models.validation import check_content, check_email, check_name
from conversations.redis_client import is_full

OUTAGE = (gettext_lazy("The database does not answer"), gettext_lazy("Please try again in a moment."))
FULL = (
    gettext_lazy("The server is full at the moment"),
    gettext_lazy("You can read messages, but not send any. Please try again later."),
)


MAX_DRAFT = 10**16
"""More than any version of a draft: microseconds since 1970."""


class EmailField(forms.CharField):
    """An e-mail address. Browsers do not check it: they refuse letters such as ü before the @."""

    def clean(self, value: str | None) -> str:
        """The address, or "". Raises ValidationError if it is not one."""
        try:
            return check_email(super().clean(value))
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class MessageForm(forms.Form):
    """A message."""

    content = forms.CharField(strip=False, required=False)
    client_id = forms.UUIDField(required=False)
    has_files = False

    def clean_content(self) -> str:
        """The text as it was typed: browsers submit every line break as CRLF."""
        check = partial(check_content, has_files=self.has_files)
        return self._apply(check, self.cleaned_data["content"].replace("\r\n", "\n"))

    def first_error(self) -> str:
        """The first error message, or "" if the form is valid."""
        return next((str(error) for errors in self.errors.values() for error in errors), "")

    @staticmethod
    def _apply(check: Callable[[str], str], text: str) -> str:
        try:
            return check(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class NoteForm(MessageForm):
    """An agent's note."""

    draft = forms.IntegerField(required=False, min_value=0, max_value=MAX_DRAFT)
    """The version of the draft that is sent."""


class AnswerForm(NoteForm):
    """An agent's answer."""

    seen = forms.IntegerField(required=False, min_value=0, max_value=MAX_ID)
    """The id of the newest message that the agent has seen."""


class CustomerMessageForm(MessageForm):
    """A customer's message. The first one may come with a name and an e-mail address."""

    name = forms.CharField(required=False)
    email = EmailField(required=False)

    def require_contact_details(self, website: Website, *, is_first: bool, is_known: bool) -> None:
        """Make name and e-mail address required, if the website wants them with the first message.

        A verified customer (`is_known`) is never asked.
        """
        if not is_first or is_known:
            return
        for name, ask, error in (
            ("name", website.ask_name, _("Please tell us your name first.")),
            ("email", website.ask_email, _("Please tell us your e-mail address first.")),
        ):
            field = self.fields[name]
            field.required = ask == Website.Ask.REQUIRED
            field.error_messages["required"] = error

    def clean_name(self) -> str:
        """The name on one line."""
        return self._apply(check_name, self.cleaned_data["name"])


def not_kept(error: Exception, refuse: Callable[[str], HttpResponse]) -> HttpResponse:
    """The response to a message that the message log has not taken, or has taken without an answer.

    refuse: makes a response of a sentence.
    """
    title, advice = FULL if is_full(error) else OUTAGE
    response = refuse(f"{title}. {advice}")
    response["Retry-After"] = "10" if is_full(error) else "5"
    return response
