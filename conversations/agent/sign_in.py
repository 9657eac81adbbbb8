"""The sign-in page of the inbox and the admin. It limits password guessing, but does not lock out the real agents.

An attempt is counted before the password is checked, and uncounted if the password is right. So only failures count:

- A browser in which somebody has signed in before has its own limit for their account, which nobody else can use up.
  It sends a signed cookie: https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
- All other attempts are limited by address, by address and account, and by account.
- When the limit of an account is used up, somebody is guessing from many addresses. Its owner must still be able to
  sign in: each network gets a few more attempts, and all networks together have another limit.
"""

import ipaddress
import secrets
import unicodedata
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from conversations.models import Agent
from conversations.threshold import limits

KNOWN_BROWSER = "known-browser"
"""The cookie of a browser in which somebody has signed in: an id of the browser, and the accounts."""

KNOWN_BROWSER_DAYS = 180
"""Days that the cookie is kept after the last sign-in."""

ACCOUNTS_OF_A_BROWSER = 10
"""The most accounts in the cookie, the latest first."""


def normalize_username(username: str) -> str:
    """Return one spelling for all names that some form or database treats as equal."""
    letters = unicodedata.normalize("NFKD", username[:150])
    visible = "".join(letter for letter in letters if unicodedata.category(letter)[0] not in "CM")  # control, mark
    return " ".join(visible.casefold().split())


def known_browser(request: HttpRequest) -> tuple[str, list[str]]:
    """Return the id of the browser, or "", and the accounts that have signed in there."""
    lifetime = KNOWN_BROWSER_DAYS * 24 * 3600
    value = request.get_signed_cookie(KNOWN_BROWSER, "", salt="conversations.sign-in", max_age=lifetime) or ""
    browser, *accounts = value.split() or [""]
    return browser, accounts


def known_account(user: User) -> str:
    """Return the account's name in the cookie. It changes with the password, which makes all cookies invalid."""
    return f"{user.pk}-{user.get_session_auth_hash()[:16]}"


def remember_browser(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """Set the cookie that proves that the user has signed in there before. It gives no access by itself."""
    browser, accounts = known_browser(request)
    others = [account for account in accounts if not account.startswith(f"{user.pk}-")]
    accounts = [known_account(user), *others][:ACCOUNTS_OF_A_BROWSER]
    response.set_signed_cookie(
        KNOWN_BROWSER,
        " ".join([browser or secrets.token_urlsafe(12), *accounts]),
        salt="conversations.sign-in",
        max_age=KNOWN_BROWSER_DAYS * 24 * 3600,
        path=reverse("agent:sign-in"),
        secure=not settings.INSECURE_HTTP,
        httponly=True,
        samesite="Lax",
    )


def count_attempt(request: HttpRequest, username: str) -> list[limits.Use]:
    """Count an attempt to sign in; return the counted uses, for `limits.give_back`. Raises RateLimitExceeded.

    Accounts that do not exist have the same limits, so that responses do not reveal which accounts exist.
    """
    user = User.objects.filter(username=username).first()
    # The stored username: databases that ignore case also find it by other spellings.
    account = normalize_username(user.username if user else username)
    browser, accounts = known_browser(request)
    if user and accounts and known_account(user) in accounts:
        return limits.reserve(("sign-ins as one agent from a known browser", f"{browser} {account}"))
    address = limits.address(request)
    of_address = [
        ("sign-ins of one address", address),
        ("sign-ins as one agent from one address", f"{address} {account}"),
    ]
    try:
        return limits.reserve(*of_address, ("sign-ins as one agent", account))
    except limits.RateLimitExceeded as error:
        if error.limit != "sign-ins as one agent":
            raise
    return limits.reserve(
        *of_address,
        ("sign-ins as an agent under attack from one network", f"{network(address)} {account}"),
        ("sign-ins as an agent under attack", account),
    )


def network(address: str) -> str:
    """Return the network that one attacker may own: the /48 of an IPv6 address, an IPv4 address itself."""
    return str(ipaddress.ip_network(address).supernet(new_prefix=48)) if ":" in address else address


def may_sign_in(user: User) -> bool:
    """Return whether the user is active, and an agent or staff (for the admin)."""
    return user.is_active and bool(user.is_staff or Agent.objects.for_user(user))


def mail_is_set() -> bool:
    """Return whether mail is set up: it is not just printed to the terminal, except in debug mode."""
    return settings.DEBUG or not settings.EMAIL_BACKEND.endswith("console.EmailBackend")


def too_many_tries(error: limits.RateLimitExceeded) -> str:
    """Return a sentence about a limit that is used up."""
    minutes = -(-error.retry_after // 60)
    sentence = ngettext(
        "Too many attempts. Wait %(minutes)s minute, then try again.",
        "Too many attempts. Wait %(minutes)s minutes, then try again.",
        minutes,
    )
    return sentence % {"minutes": minutes}


class SignInForm(AuthenticationForm):
    """Username and password. The error message does not reveal which of them is wrong."""

    error_messages = {  # noqa: RUF012 (Django annotates it as an instance variable)
        "invalid_login": gettext_lazy("The name or the password is wrong. Check both, and check capital letters."),
        "inactive": gettext_lazy("The name or the password is wrong. Check both, and check capital letters."),
    }

    def clean(self) -> dict[str, Any]:
        """Check the password. Raises RateLimitExceeded, without checking it, after too many failures."""
        username, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if self.request is None or not username or not password:
            return super().clean()
        uses = count_attempt(self.request, username)
        cleaned_data = super().clean()
        limits.give_back(*uses)
        return cleaned_data

    def confirm_login_allowed(self, user: Any) -> None:
        """Allow agents, and staff for the admin. Other accounts get the error of a wrong password."""
        super().confirm_login_allowed(user)
        if not may_sign_in(user):
            raise self.get_invalid_login_error()


class SignInView(LoginView):
    """Signs in agents and staff; failures are rate-limited."""

    template_name = "agent/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add whether the page offers a new password by mail."""
        return super().get_context_data(**kwargs) | {"mail_is_set": mail_is_set()}

    def post(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Try to sign in; 429 after too many failures."""
        try:
            return super().post(request, *args, **kwargs)
        except limits.RateLimitExceeded as error:
            return self._too_many_tries(error)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Sign in, and remember the browser."""
        response = super().form_valid(form)
        remember_browser(self.request, response, form.get_user())
        return response

    def _too_many_tries(self, error: limits.RateLimitExceeded) -> HttpResponse:
        context = self.get_context_data(form=self.get_form_class()(self.request), locked_out=too_many_tries(error))
        response = self.render_to_response(context, status=429)
        response["Retry-After"] = str(error.retry_after)
        return response


def admin_login(request: HttpRequest) -> HttpResponse:
    """Replace the admin's own login page: redirect to the sign-in page. Signed-in users who are not staff get 403."""
    if request.user.is_authenticated and not request.user.is_staff:
        raise PermissionDenied(_("Your account has no access to the admin. To use another account, sign out first."))
    if request.user.is_authenticated:
        return redirect("admin:index")
    return redirect(f"{reverse('agent:sign-in')}?{request.META['QUERY_STRING']}")


def admin_password_change(request: HttpRequest) -> HttpResponse:
    """The admin's password page, rate-limited so that somebody at an open session cannot guess the old password."""
    if request.method != "POST":
        return admin.site.password_change(request)
    try:
        use = limits.enforce("password changes of one agent", str(request.user.pk))
    except limits.RateLimitExceeded as error:
        headers = {"Retry-After": str(error.retry_after)}
        return HttpResponse(str(error), status=429, content_type="text/plain; charset=utf-8", headers=headers)
    response = admin.site.password_change(request)
    if response.status_code == 302:
        limits.give_back(use)
    return response
