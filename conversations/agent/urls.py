"""The agents' pages."""

from django.contrib.auth.views import LogoutView
from django.urls import path
from django.views.generic import RedirectView

from conversations.agent import (
    after_closing,
    calls,
    canned_replies,
    changes,
    colleagues,
    commands,
    conversation,
    correcting,
    drafts,
    inbox,
    me,
    messages,
    passwords,
    preview,
    saved_views,
)
from conversations.agent.sign_in import SignInView

app_name = "agent"
urlpatterns = [
    path("", inbox.page, name="inbox"),
    path("list/", inbox.list_only, name="list"),
    path("changes/", changes.changes, name="changes"),
    path("commands/", commands.commands, name="commands"),
    path("keys/", commands.keys, name="keys"),
    path("preview/", preview.preview, name="preview"),
    path("undo/", changes.undo_changes, name="undo"),
    path("after-closing/", after_closing.choose, name="after-closing"),
    path("views/", saved_views.save, name="views"),
    path("views/<int:pk>/delete/", saved_views.delete, name="delete-view"),
    path("sign-in/", SignInView.as_view(), name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("calls/", calls.since, name="calls"),
    path("me/", me.page, name="me"),
    path("me/picture/", me.picture, name="my-picture"),
    path("me/sign-out/", me.sign_out_elsewhere, name="sign-out-elsewhere"),
    path("account/", RedirectView.as_view(pattern_name="agent:me")),  # its address before
    path("forgotten/", passwords.forgotten, name="forgotten"),
    path("forgotten/<slug:uid>/<slug:token>/", passwords.new_password, name="new-password"),
    path("replies/", canned_replies.page, name="replies"),
    path("replies/new/", canned_replies.new, name="new-reply"),
    path("replies/<int:pk>/", canned_replies.edit, name="reply"),
    path("replies/<int:pk>/delete/", canned_replies.delete, name="delete-reply"),
    path("<int:pk>/", conversation.page, name="conversation"),
    path("<int:pk>/messages/", conversation.messages, name="messages"),
    path("<int:pk>/messages/<int:number>/", messages.message, name="message"),
    path("<int:pk>/notes/", conversation.notes, name="notes"),
    path("<int:pk>/files/<uuid:uuid>/", conversation.file, name="file"),
    path("<int:pk>/draft/", drafts.draft, name="draft"),
    path("<int:pk>/notes/draft/", drafts.draft, {"is_note": True}, name="note-draft"),
    path("<int:pk>/colleagues/", colleagues.choices, name="colleagues"),
    path("<int:pk>/replies/", canned_replies.choices, name="choices"),
    path("<int:pk>/state/", conversation.state, name="state"),
    path("<int:pk>/customer/", correcting.correct, name="correct"),
    path("<int:pk>/about/", conversation.details, name="about"),
    path("<int:pk>/read/", conversation.read, name="read"),
    path("<int:pk>/take/", conversation.take, name="take"),
    path("<int:pk>/close/", conversation.close, name="close"),
    path("<int:pk>/open/", conversation.reopen, name="open"),
]
