"""`manage.py createagent`: a person who answers customers."""

import secrets
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from conversations.models import Agent
from conversations.models.validation import check_email


class Command(BaseCommand):
    """Create an agent, or make an existing user one."""

    help = "Create an agent, or make an existing user one. Without --password a new agent gets a random one, printed."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add USERNAME [--name] [--email] [--password]."""
        parser.add_argument("username", help="to sign in with")
        parser.add_argument("--name", help="customers and colleagues see it, as in Bob")
        parser.add_argument("--email", default="")
        parser.add_argument("--password", help="at least 10 characters; others can see it in the list of processes")

    @transaction.atomic
    def handle(
        self, *args: Any, username: str, name: str | None, email: str, password: str | None, **options: Any
    ) -> None:
        """Create the agent. Raises CommandError, and changes nothing, if a value is invalid."""
        user = User.objects.filter(username=username).first()
        is_new = user is None
        user = user or User(username=username)
        random_password = ""
        if is_new and password is None:
            random_password = password = secrets.token_urlsafe(12)
        try:
            if name is not None:
                user.first_name, user.last_name = name.strip(), ""
            if email:
                user.email = check_email(email)
            if password is not None:
                validate_password(password, user)
                user.set_password(password)
            user.is_active = True
            user.full_clean(exclude=["email"])  # Django refuses addresses that people have
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except ValueError as error:
            raise CommandError(str(error)) from error
        user.save()
        Agent.objects.promote(user)
        result = f"{username} is an agent now" if is_new else f"{username}, who existed already, is an agent"
        self.stdout.write(f"{result}{f', with the password {random_password}' if random_password else ''}.")
        if not user.get_full_name():
            self.stdout.write(f"Customers see no name yet. Set one: manage.py createagent {username} --name NAME")
