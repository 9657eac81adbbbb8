"""`manage.py createtoken`: a token for a bot or a script that speaks as an agent."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from conversations.models import Agent, Token


class Command(BaseCommand):
    """Make a bearer token for an agent and print it, this once."""

    help = "Make a token with which a bot or a script speaks as an agent. It is printed once. Revoke it in the admin."

    def add_arguments(self, parser: CommandParser) -> None:
        """USERNAME NAME [--read-only]."""
        parser.add_argument("username", help="the agent as whom it speaks")
        parser.add_argument("name", help="what uses it")
        parser.add_argument("--read-only", action="store_true")

    def handle(self, *args: Any, username: str, name: str, read_only: bool, **options: Any) -> None:
        """Raises CommandError if there is no such agent."""
        agent = Agent.objects.filter(username=username).first()
        if agent is None:
            raise CommandError(f"There is no agent {username}. Make one with: manage.py createagent {username}")
        scope = Token.Scope.READ if read_only else Token.Scope.WRITE
        self.stdout.write(Token.objects.issue(agent, name, scope))
