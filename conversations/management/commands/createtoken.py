"""`manage.py createtoken`: an API token for a bot or a script that acts as an agent."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from conversations.models import Agent, Token


class Command(BaseCommand):
    """Create a bearer token for an agent and print it, once."""

    help = "Create a token with which a bot or a script acts as an agent. It is printed once. Revoke it in the admin."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add USERNAME NAME [--read-only]."""
        parser.add_argument("username", help="the agent that it acts as")
        parser.add_argument("name", help="what uses it")
        parser.add_argument("--read-only", action="store_true")

    def handle(self, *args: Any, username: str, name: str, read_only: bool, **options: Any) -> None:
        """Print the token. Raises CommandError if there is no such agent."""
        agent = Agent.objects.filter(username=username).first()
        if agent is None:
            raise CommandError(f"There is no agent {username}. Make one with: manage.py createagent {username}")
        scope = Token.Scope.READ if read_only else Token.Scope.WRITE
        self.stdout.write(Token.objects.issue(agent, name, scope))
