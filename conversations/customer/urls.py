"""The customer's pages."""

from django.urls import path

from conversations.customer import chat

app_name = "customer"
urlpatterns = [
    path("", chat.page, name="chat"),
    path("messages/", chat.messages, name="messages"),
    path("state/", chat.state, name="state"),
]
