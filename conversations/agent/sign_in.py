"""The sign-in page of the inbox and the admin."""

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


def normalize_username(username: str) -> str:
    """Return the same name for all spellings of it that some form or database takes for equal."""
    letters = unicodedata.normalize("NFKD", username.strip()[:150])
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold().strip()


class SignInForm(AuthenticationForm):
    """Username and password. The error is the same whatever is wrong."""

    error_messages = {  # noqa: RUF012 (Django annotates it as an instance variable)
        "invalid_login": gettext_lazy("Name and password don't match. Check both; capital letters matter."),
        "inactive": gettext_lazy("Name and password don't match. Check both; capital letters matter."),
    }

    def confirm_login_allowed(self, user: Any) -> None:
        """Allow agents, and staff for the admin. Any other account is answered like a wrong password."""
        super().confirm_login_allowed(user)
        if not (user.is_staff or Agent.objects.for_user(user)):
            raise self.get_invalid_login_error()


class SignInView(LoginView):
    """Signs in agents and staff; failures are rate-limited."""

    template_name = "agent/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def post(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Try to sign in; 429 when there were too many failures for this name or from this address."""
        address = limits.address(request)
        name = normalize_username(request.POST.get("username", ""))
        guesses = [
            ("sign-ins of one address", address),
            ("sign-ins as one agent from one address", f"{address} {name}"),
            ("sign-ins as one agent", name),
        ]
        try:
            for limit, who in guesses:
                limits.check(limit, who)
        except limits.RateLimitExceeded as error:
            return self._too_many_tries(error)
        response = super().post(request, *args, **kwargs)
        if response.status_code == 200:  # the form again: it failed
            for limit, who in guesses:
                limits.count(limit, who)
        return response

    def _too_many_tries(self, error: limits.RateLimitExceeded) -> HttpResponse:
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


def admin_login(request: HttpRequest) -> HttpResponse:
    """Replace the admin's own login page: redirect to the sign-in page. Signed-in users who are not staff get 403."""
    if request.user.is_authenticated and not request.user.is_staff:
        raise PermissionDenied(_("The admin is for staff, and your account is not. Sign out first to come as another."))
    if request.user.is_authenticated:
        return redirect("admin:index")
    return redirect(f"{reverse('agent:sign-in')}?{request.META['QUERY_STRING']}")
