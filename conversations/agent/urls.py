"""The agents' pages."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from conversations.agent import conversation, inbox
from conversations.agent.sign_in import SignInView

app_name = "agent"
urlpatterns = [
    path("", inbox.page, name="inbox"),
    path("list/", inbox.rows, name="list"),
    path("sign-in/", SignInView.as_view(), name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("<int:pk>/", conversation.page, name="conversation"),
    path("<int:pk>/messages/", conversation.messages, name="messages"),
    path("<int:pk>/files/<uuid:uuid>/", conversation.file, name="file"),
    path("<int:pk>/state/", conversation.state, name="state"),
    path("<int:pk>/about/", conversation.details, name="about"),
    path("<int:pk>/read/", conversation.read, name="read"),
    path("<int:pk>/take/", conversation.take_it, name="take"),
    path("<int:pk>/close/", conversation.close_it, name="close"),
    path("<int:pk>/open/", conversation.open_it, name="open"),
]
