"""The sign-in page, which is the admin's too."""

import unicodedata
from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from conversations.models import Agent
from conversations.threshold import limits


def same_name(written: str) -> str:
    """The name that all ways of writing it have in common, for whichever form or database takes them for the same."""
    letters = unicodedata.normalize("NFKD", written.strip()[:150])
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold().strip()


class SignInForm(AuthenticationForm):
    """A name and a password. Whatever is wrong, the answer is the same."""

    error_messages = {  # noqa: RUF012 (Django's form has it as an instance's dict)
        "invalid_login": gettext_lazy("Name and password don't match. Check both; capital letters matter."),
        "inactive": gettext_lazy("Name and password don't match. Check both; capital letters matter."),
    }

    def confirm_login_allowed(self, user: Any) -> None:
        """Let in agents, and staff for the admin. An account that is neither looks like a wrong password."""
        super().confirm_login_allowed(user)
        if not (user.is_staff or Agent.objects.for_user(user)):
            raise self.get_invalid_login_error()


class SignInView(LoginView):
    """Signs in agents and staff, slowly where somebody guesses."""

    template_name = "agent/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def post(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Try to sign in; 429 when there were too many failures for this name or from this address."""
        address = limits.address(request)
        name = same_name(request.POST.get("username", ""))
        guesses = [
            ("sign-ins of one address", address),
            ("sign-ins as one agent from one address", f"{address} {name}"),
            ("sign-ins as one agent", name),
        ]
        try:
            for limit, who in guesses:
                limits.check(limit, who)
        except limits.TooMany as error:
            return self._locked_out(error)
        response = super().post(request, *args, **kwargs)
        if response.status_code == 200:  # the form again: it failed
            for limit, who in guesses:
                limits.count(limit, who)
        return response

    def _locked_out(self, error: limits.TooMany) -> HttpResponse:
        minutes = -(-error.retry_after // 60)
        sentence = ngettext(
            "Too many tries. Wait %(minutes)s minute, then try again.",
            "Too many tries. Wait %(minutes)s minutes, then try again.",
            minutes,
        ) % {"minutes": minutes}
        context = self.get_context_data(form=self.get_form_class()(self.request), locked_out=sentence)
        response = self.render_to_response(context, status=429)
        response["Retry-After"] = str(error.retry_after)
        return response


def before_the_admin(request: HttpRequest) -> HttpResponse:
    """The admin sends everybody here who may not go in: to sign in, or to be told that they are who they are."""
    if request.user.is_authenticated and not request.user.is_staff:
        raise PermissionDenied(_("The admin is for staff, and your account is not. Sign out first to come as another."))
    if request.user.is_authenticated:
        return redirect("admin:index")
    return redirect(f"{reverse('agent:sign-in')}?{request.META['QUERY_STRING']}")
