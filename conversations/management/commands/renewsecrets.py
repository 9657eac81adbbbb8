"""`manage.py renewsecrets`: new uuids for conversations, so that the old ones give no access."""

from contextlib import suppress
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from conversations.actions import renew_secret
from conversations.counted import counted
from conversations.models import Agent, Conversation
from conversations.models.conversation import ConversationQuerySet

BATCH_SIZE = 200
"""Conversations that one query reads. Each is renewed in its own transaction."""

WARNING = """\
This renews the secrets of {count}.
{verified} of verified customers: they go on where their website identifies them again.
{anonymous} of anonymous customers: their browsers lose the conversation. With their next message they start a new one,
and agents still see the old one."""


class Command(BaseCommand):
    """Renew the secrets of conversations, for when an agent leaves or a token gets into the wrong hands."""

    help = "Renew the secrets (uuids) of conversations, so that nobody who has stored them can read or write with them."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --seen-by USERNAME | --conversation ID | --all, [--after ID] [--yes]."""
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--seen-by", metavar="USERNAME", help="all that this user may see, or might as an agent")
        which.add_argument("--conversation", metavar="ID", type=int, help="one conversation")
        which.add_argument("--all", action="store_true", help="all conversations")
        parser.add_argument(
            "--after", metavar="ID", type=int, default=0, help="only those with greater ids: go on there"
        )
        parser.add_argument("--yes", action="store_true", help="do it; without this it only says what it costs")

    def handle(self, *args: Any, seen_by: str | None, conversation: int | None, **options: Any) -> None:
        """Say what it costs; with --yes, renew. Raises CommandError if there is no such user or conversation."""
        conversations = Conversation.objects.filter(pk__gt=options["after"]).order_by("pk")
        if conversation is not None:
            conversations = conversations.filter(pk=conversation)
            if not conversations:
                raise CommandError(f"There is no conversation {conversation}.")
        if seen_by is not None:
            conversations = self.visible_to(seen_by, conversations)
        count, verified = conversations.count(), conversations.exclude(contact=None).count()
        self.stdout.write(
            WARNING.format(count=counted(count, "conversation"), verified=verified, anonymous=count - verified)
        )
        if not options["yes"]:
            self.stdout.write("Nothing is changed yet. To do it, say --yes.")
        elif count:
            self.renew(conversations)

    def visible_to(self, username: str, conversations: ConversationQuerySet) -> ConversationQuerySet:
        """The conversations that a user may see, or could when they were an agent: their websites stay stored."""
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username}. Is it deleted? Then renew --all.")
        if Agent.objects.filter(pk=user.pk).exists():
            self.stdout.write(f"{username} is still an agent, and may see the new secrets too.")
        websites = user.websites.all()
        if not websites:
            return conversations
        names = ", ".join(website.name for website in websites)
        self.stdout.write(f"{username} sees only conversations of: {names}. If they saw others before, renew --all.")
        return conversations.filter(website__in=websites)

    def renew(self, conversations: ConversationQuerySet) -> None:
        """Renew those that exist now, in the order of their ids."""
        newest = conversations.values_list("pk", flat=True).last()
        done, last = 0, 0
        try:
            while batch := list(conversations.filter(pk__gt=last, pk__lte=newest)[:BATCH_SIZE]):
                for conversation in batch:
                    with suppress(Conversation.DoesNotExist):  # deleted meanwhile
                        renew_secret(conversation=conversation)
                    done, last = done + 1, conversation.pk
                self.stdout.write(f"{done} renewed, up to conversation {last}.")
        except BaseException:
            if last:
                self.stderr.write(f"Stopped. To go on, add --after {last}")
            raise
