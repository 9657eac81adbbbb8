"""The customer's pages: under /chat/ for the default website, under /chat/KEY/ for every other one."""

from django.urls import path

from conversations.customer import assets, chat, host, secret

app_name = "customer"
urlpatterns = [
    path("", chat.page, name="chat"),
    path("messages/", chat.messages, name="messages"),
    path("state/", chat.state, name="state"),
    path("files/<uuid:uuid>/", chat.file, name="file"),
    path("files/<uuid:uuid>/sign/", chat.sign_file, name="sign-file"),
    path("files/<str:signed_id>/<str:name>", chat.signed_file, name="signed-file"),
    path("known/", secret.known, name="known"),
    path("identify/", secret.identify, name="identify"),
    path("code/", secret.code, name="code"),
    path("enter/", secret.enter, name="enter"),
    path("resume/", secret.resume, name="resume"),
    path("here/", host.report_page, name="here"),
    path("forget/", host.sign_out, name="forget"),
]
files = (
    [
        path("chat.js", assets.loader, name="loader"),
        path("chat/script-<slug:digest>.js", assets.script_file, name="script"),
        path("chat/<slug:name>.<slug:language>.<slug:digest>.js", assets.module_file, name="module"),
        path("chat/style-<str:accent>-<slug:digest>.css", assets.style_file, name="style"),
    ],
    "assets",
)
