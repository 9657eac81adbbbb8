"""`manage.py createagent`: a person who answers customers."""

import secrets
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from conversations.models import Agent


class Command(BaseCommand):
    """Create an agent, or make an existing user one."""

    help = "Create an agent, or make an existing user one. Without --password a new user gets a random one, printed."

    def add_arguments(self, parser: CommandParser) -> None:
        """USERNAME [--email] [--password]."""
        parser.add_argument("username")
        parser.add_argument("--email", default="")
        parser.add_argument("--password", help="at least 10 characters; others can read it in the list of processes")

    @transaction.atomic
    def handle(self, *args: Any, username: str, email: str, password: str | None, **options: Any) -> None:
        """Raises CommandError, and changes nothing, if the name or the password will not do."""
        user = User.objects.filter(username=username).first()
        is_new = user is None
        user = user or User(username=username)
        shown = ""
        if is_new and password is None:
            shown = password = secrets.token_urlsafe(12)
        try:
            if email:
                user.email = email
            if password is not None:
                validate_password(password, user)
                user.set_password(password)
            user.is_active = True
            user.full_clean()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        user.save()
        Agent.objects.promote(user)
        said = f"{username} is an agent now" if is_new else f"{username}, who existed already, is an agent"
        self.stdout.write(f"{said}{f', with the password {shown}' if shown else ''}.")
