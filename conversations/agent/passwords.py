"""The form of an agent's e-mail address, and a new password by mail for those who have forgotten theirs.

Neither the response nor its time reveals whether an account has the e-mail address: another thread looks up the
accounts and sends the mails.
"""

import atexit
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.forms import PasswordChangeForm, PasswordResetForm, SetPasswordForm
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.db import OperationalError, close_old_connections, connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import urlsafe_base64_decode
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from conversations.agent.sign_in import mail_is_set, may_sign_in, normalize_username, too_many_tries
from conversations.screen.forms import EmailField
from conversations.threshold import limits

logger = logging.getLogger(__name__)

MAILS_AT_ONCE = 20
"""The most mails that wait or are being sent at the same time. Further requests get no mail; an error is logged."""

RETRIES = (2, 10)
"""Seconds to wait before the second and the third try if the database does not answer."""

EXIT_TIMEOUT = 1
"""Seconds to wait for mails when the process ends. Requests take up to 8 before, and Docker sends SIGKILL after 10."""

THREAD = "password-mail"
places = threading.BoundedSemaphore(MAILS_AT_ONCE)
turn = threading.Lock()  # mails are sent one at a time


def wait_for_mails(seconds: float) -> None:
    """Return when all mails are sent, or after so many seconds."""
    deadline = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(max(0, deadline - time.monotonic()))


atexit.register(wait_for_mails, EXIT_TIMEOUT)


class EmailForm(forms.Form):
    """An agent's e-mail address. Changing it requires the password, because a mail to this address can reset it."""

    email = EmailField(required=False)
    old_password = forms.CharField(strip=False)

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        self.user = user
        super().__init__(*args, **kwargs)

    def clean_old_password(self) -> str:
        """Check the password."""
        password: str = self.cleaned_data["old_password"]
        if not self.user.check_password(password):
            raise ValidationError(PasswordChangeForm.error_messages["password_incorrect"])
        return password

    def save(self) -> None:
        """Save the address. Links in mails to the previous address become invalid."""
        self.user.email = self.cleaned_data["email"]
        self.user.save(update_fields=["email"])


class ForgottenForm(PasswordResetForm):
    """The e-mail address of an account."""

    email = EmailField()

    def get_users(self, email: str) -> Iterator[User]:
        """The users with this address who may sign in and have a usable password."""
        return (user for user in super().get_users(email) if may_sign_in(user))

    def send(self, request: HttpRequest) -> None:
        """Send a link to every account with this address, in another thread. Failures are in the log."""
        if not places.acquire(blocking=False):
            logger.error("A password reset mail is not sent: %s are waiting already.", MAILS_AT_ONCE)
            return
        # The host is in ALLOWED_HOSTS. In production all links are https, even if a proxy does not pass on the scheme.
        host, is_secure, language = (
            request.get_host(),
            request.is_secure() or not settings.INSECURE_HTTP,
            get_language(),
        )

        more: Any = {"minutes": settings.PASSWORD_RESET_TIMEOUT // 60}  # Django's stubs take only texts

        def send() -> None:
            with turn, override(language):
                self.save(
                    domain_override=host,
                    use_https=is_secure,
                    subject_template_name="agent/forgotten_subject.txt",
                    email_template_name="agent/forgotten_mail.txt",
                    extra_email_context=more,
                )

        def job() -> None:
            try:
                for seconds in RETRIES:
                    try:
                        return send()
                    except OperationalError as error:
                        logger.warning("A password reset mail waits for the database: %s", error)
                    time.sleep(seconds)
                    close_old_connections()  # each try has its own time limit for the database
                send()
            except Exception:
                logger.exception("A password reset mail could not be sent.")
            finally:
                connection.close()
                places.release()

        # A daemon thread has its own time limit for the database, and does not keep the process from ending.
        threading.Thread(target=job, name=THREAD, daemon=True).start()


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def forgotten(request: HttpRequest) -> HttpResponse:
    """The page that mails a link to reset the password; 404 if mail is not set up."""
    if not mail_is_set():
        raise Http404
    form = ForgottenForm(request.POST or None)
    context = {"form": form, "minutes": settings.PASSWORD_RESET_TIMEOUT // 60}
    if request.method != "POST" or not form.is_valid():
        return render(request, "agent/forgotten.html", context)
    try:
        limits.reserve(
            ("password mails of one address", limits.address(request)),
            ("password mails to one account", normalize_username(form.cleaned_data["email"])),
        )
    except limits.RateLimitExceeded as error:
        return _refused(request, "agent/forgotten.html", context, error)
    form.send(request)
    return render(request, "agent/forgotten.html", {**context, "sent_to": form.cleaned_data["email"]})


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def new_password(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """The page of a mailed link, where a new password is chosen. The link is valid for one change.

    Django's own view moves the token from the URL to the session. Here it stays in the URL: a click on a link in a mail
    is a cross-site request, which must not change the session. Our pages send no Referer to other sites.
    """
    user = _user_of(uid)
    if user is None or not default_token_generator.check_token(user, token):
        return render(request, "agent/new_password.html", {"mail_is_set": mail_is_set()}, status=404)
    form = SetPasswordForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, _("Your password is changed. Sign in with it."))
        return redirect("agent:sign-in")
    return render(request, "agent/new_password.html", {"form": form, "account": user})


def _user_of(uid: str) -> User | None:
    """The user with this id in a mailed link, if they may sign in."""
    try:
        pk = int(urlsafe_base64_decode(uid).decode("ascii"))
    except ValueError:
        return None
    user = User.objects.filter(pk=pk).first() if 0 < pk < 2**31 else None
    return user if user and user.has_usable_password() and may_sign_in(user) else None


def _refused(
    request: HttpRequest, template: str, context: dict[str, Any], error: limits.RateLimitExceeded
) -> HttpResponse:
    response = render(request, template, {**context, "refused": too_many_tries(error)}, status=429)
    response["Retry-After"] = str(error.retry_after)
    return response
