"""What people may send from pages, with the rules of `models.writing` behind it."""

from collections.abc import Callable
from functools import partial

from django import forms
from django.utils.translation import gettext as _

from conversations.models import Website
from conversations.models.writing import check_content, check_email, check_name


class MessageForm(forms.Form):
    """A message."""

    content = forms.CharField(strip=False, required=False)
    client_id = forms.UUIDField(required=False)
    has_files = False

    def clean_content(self) -> str:
        """The text as it was typed: forms send line ends as CRLF, whatever was typed."""
        rule = partial(check_content, has_files=self.has_files)
        return self._checked(rule, self.cleaned_data["content"].replace("\r\n", "\n"))

    def sentence(self) -> str:
        """The first thing that is wrong, for a person."""
        return next((str(error) for errors in self.errors.values() for error in errors), "")

    @staticmethod
    def _checked(rule: Callable[[str], str], text: str) -> str:
        try:
            return rule(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class CustomerMessageForm(MessageForm):
    """A customer's message: the first one may say who they are."""

    name = forms.CharField(required=False)
    email = forms.CharField(required=False)

    def ask(self, website: Website, *, is_first: bool, is_known: bool) -> None:
        """Ask what the website wants to know with the first message, of those whom its own server does not know."""
        if not is_first or is_known:
            return
        for name, ask, sentence in (
            ("name", website.ask_name, _("Please tell us your name first.")),
            ("email", website.ask_email, _("Please tell us your e-mail address first.")),
        ):
            field = self.fields[name]
            field.required = ask == Website.Ask.REQUIRED
            field.error_messages["required"] = sentence

    def clean_name(self) -> str:
        """The name on one line."""
        return self._checked(check_name, self.cleaned_data["name"])

    def clean_email(self) -> str:
        """An e-mail address, or nothing."""
        return self._checked(check_email, self.cleaned_data["email"])
