"""An agent's own page: what customers see of them, their settings, their password, and where they are signed in."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from conversations.agent.access import AgentRequest, agent_required
from conversations.agent.customer_details import browser_and_system
from conversations.agent.passwords import EmailForm
from conversations.agent.sign_in import mail_is_set, too_many_tries
from conversations.models import Agent, AgentProfile, SignIn
from conversations.models.agent_profile import parse_time, picture_of
from conversations.models.attachment import UploadRefused, not_stored
from conversations.models.visible_text import one_line
from conversations.models.website import check_time_zone, usable_time_zones
from conversations.pictures.process import DecoderBusy, process_portrait
from conversations.screen.avatars import Avatar
from conversations.screen.paging import parse_number
from conversations.threshold import limits

MAX_PICTURE = 10 * 1024 * 1024
"""Bytes of an uploaded picture. What is kept of it is a square of 256 pixels, about 10 kB."""

NAME_LENGTH = 80
"""The most characters of a name."""


class NameForm(forms.Form):
    """The name that customers see."""

    name = forms.CharField(required=False, max_length=NAME_LENGTH)

    def __init__(self, agent: Agent, data: Any = None) -> None:
        self.agent = agent
        super().__init__(data, initial={"name": agent.get_full_name()}, auto_id="name_%s")

    def save(self) -> str:
        """Save the name, and return what is said of it."""
        name = one_line(self.cleaned_data["name"])
        if name != self.agent.get_full_name():
            self.agent.first_name, self.agent.last_name = name, ""
            self.agent.save(update_fields=["first_name", "last_name"])
        return _("Your name is saved.")


class TimeField(forms.CharField):
    """A time of day, or nothing."""

    def clean(self, value: str | None) -> Any:
        """The time, or None. Raises ValidationError."""
        try:
            return parse_time(super().clean(value))
        except ValueError:
            raise ValidationError(_("Enter a time such as 22:30.")) from None


class PreferencesForm(forms.Form):
    """What the agent chooses for themselves."""

    language = forms.ChoiceField(required=False)
    time_zone = forms.CharField(required=False, max_length=64)
    takes_answered = forms.BooleanField(required=False)
    after_closing = forms.ChoiceField(choices=AgentProfile.AfterClosing.choices)
    letter_keys = forms.BooleanField(required=False)
    about = forms.ChoiceField(choices=AgentProfile.About.choices)
    sound_when = forms.ChoiceField(choices=AgentProfile.When.choices)
    sound = forms.ChoiceField(choices=AgentProfile.Sound.choices)
    desktop = forms.BooleanField(required=False)
    quiet_from = TimeField(required=False)
    quiet_until = TimeField(required=False)

    def __init__(self, agent: Agent, data: Any = None) -> None:
        self.agent = agent
        initial = {name: getattr(agent.preferences, name) for name in self.base_fields}
        super().__init__(data, initial=initial)
        language: Any = self.fields["language"]
        language.choices = [("", _("As in your browser")), *settings.LANGUAGES]

    def clean_time_zone(self) -> str:
        """The name of a time zone, or "". Raises ValidationError."""
        name: str = self.cleaned_data["time_zone"].strip()
        if name:
            check_time_zone(name)
        return name

    def clean(self) -> dict[str, Any]:
        """Check that quiet hours have a beginning and an end, or neither."""
        values = self.cleaned_data
        if not self.errors and (values["quiet_from"] is None) != (values["quiet_until"] is None):
            self.add_error("quiet_until", _("Enter both times, or none."))
        return values

    def save(self) -> str:
        """Save the settings, and return what is said of them."""
        AgentProfile.objects.change(self.agent, **self.cleaned_data)
        return _("Your settings are saved.")


FORMS: dict[str, Callable[..., Any]] = {"name": NameForm, "preferences": PreferencesForm}
"""The forms of the page that need no password, by the value of their button `save`."""


@sensitive_post_parameters()
@never_cache
@agent_required
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: AgentRequest) -> HttpResponse:
    """The page. A new password ends all the agent's tokens and sessions except this one."""
    if request.method != "POST":
        return _render(request)
    save = request.POST.get("save", "")
    if save in FORMS:
        form = FORMS[save](request.agent, request.POST)
        if not form.is_valid():
            return _render(request, 422, **{save: form})
        messages.success(request, form.save())
        return redirect("agent:me")
    return _save_account(request)


def _save_account(request: AgentRequest) -> HttpResponse:
    """A new password or e-mail address, which needs the password."""
    agent = request.agent
    is_email = "email" in request.POST
    try:
        use = limits.enforce("password changes of one agent", str(agent.pk))
    except limits.RateLimitExceeded as error:
        response = _render(request, 429, refused=too_many_tries(error))
        response["Retry-After"] = str(error.retry_after)
        return response
    form = EmailForm(agent, request.POST, auto_id="email_%s") if is_email else PasswordChangeForm(agent, request.POST)
    is_valid = form.is_valid()
    if "old_password" not in form.errors:
        limits.give_back(use)
    if not is_valid:
        return _render(request, 200, **{"email_form" if is_email else "password_form": form})
    form.save()
    if is_email:
        messages.success(request, _("Your e-mail address is saved."))
    else:
        update_session_auth_hash(request, agent)
        SignIn.objects.end_all(agent, but=request.session.session_key)
        messages.success(request, _("Your password is changed. Everywhere else you are signed out."))
    return redirect("agent:me")


@agent_required
@require_POST
def picture(request: AgentRequest) -> HttpResponse:
    """Store the uploaded `picture`, cropped to a square, or with `remove` delete the one that there is."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_PICTURE + settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        return _render(request, 413, picture_error=_too_large())  # without parsing it
    profile = AgentProfile.objects.of(request.agent)
    if "remove" in request.POST:
        profile.replace_picture(None)
        messages.success(request, _("Your picture is removed."))
        return redirect("agent:me")
    try:
        portrait = _portrait(request)
        try:
            profile.replace_picture(portrait)
        except OSError as error:
            raise not_stored(error) from error
    except UploadRefused as error:
        return _render(request, error.status, picture_error=str(error))
    except limits.RateLimitExceeded as error:
        response = _render(request, 429, picture_error=too_many_tries(error))
        response["Retry-After"] = str(error.retry_after)
        return response
    messages.success(request, _("Your picture is saved."))
    return redirect("agent:me")


def _portrait(request: AgentRequest) -> Any:
    """The uploaded picture as a small square, an open file. Raises UploadRefused and RateLimitExceeded."""
    file = request.FILES.get("picture")
    if file is None or not file.size:
        raise UploadRefused(422, _("Choose a picture first."))
    if file.size > MAX_PICTURE:
        raise UploadRefused(413, _too_large())
    limits.enforce("pictures of one agent", request.agent.pk)  # decoding one is work
    try:
        portrait = process_portrait(file)
    except DecoderBusy as error:
        sentence = _("Many pictures are being uploaded at the moment. Please try again in a minute.")
        raise UploadRefused(429, sentence) from error
    except OSError as error:
        raise not_stored(error) from error
    if portrait is None:
        raise UploadRefused(422, _("This is no picture that can be shown. Choose a JPEG, PNG, GIF or WebP file."))
    return portrait


def _too_large() -> str:
    return _("This picture is larger than %(most)s MB.") % {"most": MAX_PICTURE // 1024**2}


@agent_required
@require_POST
def sign_out_elsewhere(request: AgentRequest) -> HttpResponse:
    """End one session of the agent, by its `id`, or with `everywhere` all of them except this one."""
    own = request.session.session_key
    if "everywhere" in request.POST:
        SignIn.objects.end_all(request.agent, but=own)
        messages.success(request, _("Everywhere else you are signed out."))
        return redirect("agent:me")
    pk = parse_number(request.POST.get("id", ""))
    found = SignIn.objects.filter(user=request.agent, pk=pk).first() if pk is not None else None
    if found is None:
        raise Http404
    if found.session_key == own:
        return redirect("agent:me")
    SignIn.objects.end([found.session_key])
    messages.success(request, _("This browser is signed out."))
    return redirect("agent:me")


def _render(request: AgentRequest, status: int = 200, **context: Any) -> HttpResponse:
    agent, zone = request.agent, request.agent.preferences.zone
    own = request.session.session_key
    found = sorted(SignIn.objects.of(agent), key=lambda each: each.session_key != own)
    shown = {
        "agent": agent,
        "avatar": Avatar.of(str(agent), picture_of(agent)),
        "name": NameForm(agent),
        "preferences": PreferencesForm(agent),
        "zone": zone.key if zone else "",
        "zones": usable_time_zones(),
        "email_form": EmailForm(agent, initial={"email": agent.email}, auto_id="email_%s"),
        "password_form": PasswordChangeForm(agent),
        "mail_is_set": mail_is_set(),
        "sessions": [
            {
                "id": each.pk,
                "browser": browser_and_system(each.user_agent),
                "since": _local_time(timezone.localtime(each.created_at, zone)),
                "seen_on": each.seen_on,
                "is_own": each.session_key == own,
            }
            for each in found
        ],
    }
    return render(request, "agent/me.html", shown | context, status=status)


def _local_time(moment: datetime) -> SafeString:
    """A moment, which a script shows as the reader's language and time zone have it."""
    text = f"{date_format(moment, 'DATETIME_FORMAT')} {moment:%Z}"
    return format_html(
        '<local-time data-as="full"><time datetime="{}">{}</time></local-time>', moment.isoformat(), text
    )
