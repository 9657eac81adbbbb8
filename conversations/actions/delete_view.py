"""An agent deletes a saved view."""

from conversations.models import Agent, SavedView


def delete_view(*, pk: int, by: Agent) -> bool:
    """Delete one's own view, or one of the team. Returns False if it is another agent's. It may be gone already."""
    return bool(SavedView.objects.of(by).filter(pk=pk).delete()[0]) or not SavedView.objects.filter(pk=pk).exists()
