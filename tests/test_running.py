"""docs/running.md and docs/upgrading.md, walked literally behind a real nginx with TLS, and what they lead to.

The test runs the documents' commands on a BareMachine, which says what is replaced. Then people use this installation.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, HTTPSHandler, Request, build_opener

import pytest
import yaml
from django.core.management import get_commands
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from chatsite.serving.server import SHUTDOWN_TIMEOUT
from tests.bare_machine import BareMachine, Unit
from tests.conftest import ROOT, free_port, server_database

MISSING = [
    name for name in ("nginx", "curl", "openssl") if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None
]
needs_nginx = pytest.mark.skipif(
    bool(MISSING) and os.environ.get("CI") != "true", reason=f"needs {', '.join(MISSING)}, which is not installed"
)
SERVICES = ("chatsite", "chatsite@", "chatsite-backup", "chatsite-replicate")


def commands(document: str, heading: str) -> list[str]:
    """The blocks of commands under a heading of a document, in order."""
    text = (ROOT / "docs" / document).read_text()
    [section] = re.findall(rf"^##+ {heading}\n(.*?)(?=^##+ |\Z)", text, re.DOTALL | re.MULTILINE)
    return re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


class Browser:
    """A browser without JavaScript on an installation behind https, with cookies."""

    def __init__(self, origin: str, certificate: Path) -> None:
        self.origin = origin
        self.tls = ssl.create_default_context(cafile=str(certificate))
        self.cookies = CookieJar()
        self.opener = build_opener(HTTPSHandler(context=self.tls), HTTPCookieProcessor(self.cookies))

    def cookie(self, name: str) -> str:
        """The value of a cookie."""
        [value] = [cookie.value for cookie in self.cookies if cookie.name == name]
        return value or ""

    def send(self, path: str, body: bytes | None, **headers: str) -> tuple[int, str]:
        """GET, or POST if there is a body. Returns the status and the text of the response."""
        request = Request(
            f"{self.origin}{path}", body, {name.replace("_", "-"): text for name, text in headers.items()}
        )
        try:
            with self.opener.open(request, timeout=30) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def get(self, path: str) -> str:
        """The text of a page."""
        status, text = self.send(path, None)
        assert status == 200, text
        return text

    def form(self, path: str, origin: str = "", **fields: str) -> tuple[int, str]:
        """Send a form, as a browser does from this origin."""
        return self.send(path, urlencode(fields).encode(), Origin=origin or self.origin, Referer=f"{self.origin}/")

    def api(self, path: str, **data: Any) -> tuple[int, Any]:
        """Call the API with JSON."""
        status, text = self.send(path, json.dumps(data).encode(), Content_Type="application/json")
        return status, json.loads(text)

    def upload(self, path: str, content: bytes) -> tuple[int, Any]:
        """Send a file with the API."""
        head = 'Content-Disposition: form-data; name="files"; filename="notes.txt"\r\nContent-Type: text/plain'
        body = b"--limit\r\n%s\r\n\r\n%s\r\n--limit--\r\n" % (head.encode(), content)
        status, text = self.send(path, body, Content_Type="multipart/form-data; boundary=limit")
        return status, json.loads(text)

    def socket(self, path: str, origin: str = "") -> connect:
        """Open a WebSocket, as a page of this origin does.

        Of asyncio, because Python before 3.13 may not read and write a TLS connection in two threads.
        """
        url = f"{self.origin.replace('https:', 'wss:')}{path}"
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)
        headers = {"Cookie": cookies} if cookies else None
        return connect(url, ssl=self.tls, origin=Origin(origin or self.origin), additional_headers=headers, proxy=None)

    def signs_in(self, username: str, password: str) -> None:
        """Sign in as an agent."""
        self.get("/inbox/sign-in/")
        token = self.cookie("csrftoken")
        status, text = self.form("/inbox/sign-in/", username=username, password=password, csrfmiddlewaretoken=token)
        assert status == 200, text
        assert "sign-out" in text


class Installation:
    """What an administrator has who has followed docs/running.md."""

    def __init__(self, machine: BareMachine, origin: str, password: str) -> None:
        self.machine = machine
        self.origin = origin
        self.password = password  # of the agent bob

    def browser(self) -> Browser:
        """A new browser."""
        return Browser(self.origin, self.machine.root / "certificate.pem")


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Iterator[Installation]:
    """Chatsite as docs/running.md installs it, with one process, on the database that the suite runs on."""
    root = tmp_path_factory.mktemp("machine")
    ports = {port: str(free_port()) for port in ("80", "443", "8000", "8001")}
    machine = BareMachine(root, ports)
    machine.set_up()
    with django_db_blocker.unblock():
        for url in server_database(root):
            script = "\n".join(commands("running.md", "One process"))
            # What is the reader's to change, the port, and what tests need.
            script = re.sub("DOMAIN=.*", "DOMAIN=localhost", script, count=1)
            script = script.replace("https://$DOMAIN/", f"https://$DOMAIN:{ports['443']}/")
            script = re.sub("DATABASE_URL=.*", f"DATABASE_URL={url}\nRATE_LIMITS=off", script)
            script = script.replace("\nEND\n", f"\nREDIS_URL={os.environ.get('REDIS_URL', '')}\nEND\n", 1)
            try:
                output = machine.run(script)
                [password] = re.findall(r"with the password (\S+)\.", output)
                yield Installation(machine, f"https://localhost:{ports['443']}", password)
            finally:
                machine.shut_down()


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_runs_commands_that_exist(name: str) -> None:
    unit = Unit(ROOT / "deploy" / f"{name}.service", "8001")
    assert unit.values("WorkingDirectory") == ["/srv/chatsite"]
    documented = "\n".join(commands("running.md", "One process"))
    assert 'git clone "$REPOSITORY" /srv/chatsite' in documented
    assert "useradd" in documented
    assert unit.values("User") == unit.values("Group") == ["chatsite"]
    [line] = [" ".join(command) for command in unit.commands("ExecStart")]
    [command] = re.findall(r"\.venv/bin/python manage\.py (\w+)", line)
    assert command in get_commands()


def test_a_timer_belongs_to_a_service_and_all_units_are_bounded_alike() -> None:
    names = {path.stem for path in (ROOT / "deploy").glob("*.service")}
    assert names == set(SERVICES)
    assert {path.stem for path in (ROOT / "deploy").glob("*.timer")} == {"chatsite-backup"}
    bounds = re.compile(
        r"^(?:Protect|Private|Restrict|SystemCall|Capab|NoNew|Lock|Memory|UMask|StateDirectoryM).*", re.M
    )
    found = [bounds.findall((ROOT / "deploy" / f"{name}.service").read_text()) for name in SERVICES]
    assert len(found[0]) > 15
    assert all(lines == found[0] for lines in found)


def test_systemd_waits_longer_for_an_end_than_the_server_takes() -> None:
    for name in ("chatsite", "chatsite@"):
        unit = Unit(ROOT / "deploy" / f"{name}.service", "8000")
        assert float(unit.values("TimeoutStopSec")[0]) > SHUTDOWN_TIMEOUT + 2
        assert unit.values("Restart") == ["always"]
        assert unit.lines["StartLimitIntervalSec"] == ["0"]


def test_compose_migrates_once_and_shows_nothing_but_the_proxy() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services["chatsite"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["migrate"]["restart"] == "no"
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert [name for name, service in services.items() if "front" in service["networks"]] == ["proxy", "chatsite"]
    caddyfile = (ROOT / "deploy/Caddyfile").read_text()
    assert set(re.findall(r"\{\$(\w+)", caddyfile)) == set(services["proxy"]["environment"])
    # The example's settings are those of Compose: only SECRET_KEY is to be set.
    assert "\nALLOWED_HOSTS=localhost\n" in (ROOT / ".env.example").read_text()


@needs_nginx
async def test_who_follows_the_document_can_chat_behind_https(installation: Installation) -> None:
    alice, bob = installation.browser(), installation.browser()
    assert 'name="content"' in alice.get("/chat/")
    status, text = alice.form("/chat/messages/", content="Hello from a form", client_id=str(uuid.uuid4()))
    assert (status, "Hello from a form" in text) == (200, True)

    bob.signs_in("bob", installation.password)
    [pk] = set(re.findall(r"/inbox/(\d+)/", bob.get("/inbox/")))
    async with alice.socket("/ws/chat/") as bell, bob.socket("/ws/inbox/"):
        await asyncio.wait_for(bell.recv(), 10)
        token = bob.cookie("csrftoken")
        status, text = bob.form(f"/inbox/{pk}/messages/", content="Hello Alice", csrfmiddlewaretoken=token)
        assert status == 200, text
        await asyncio.wait_for(bell.recv(), 10)  # the doorbell rings through nginx
    assert "Hello Alice" in alice.get("/chat/")

    status, answer = alice.api("/api/messages/", content="Hello from a program")
    assert status == 200, answer
    conversation = answer["items"][0]["conversation"]
    status, answer = alice.upload(f"/api/messages/{conversation}/files/", b"x" * 3_000_000)
    assert status == 200, answer
    [attachment] = answer["items"][-1]["attachments"]
    assert len(alice.get(attachment["url"].removeprefix(installation.origin))) == 3_000_000


@needs_nginx
async def test_one_address_may_have_many_tabs_but_few_large_bodies(installation: Installation) -> None:
    alice = installation.browser()
    assert alice.form("/chat/messages/", content="Hello", client_id=str(uuid.uuid4()))[0] == 200
    async with AsyncExitStack() as tabs:
        for _ in range(12):
            bell = await tabs.enter_async_context(alice.socket("/ws/chat/"))
            await asyncio.wait_for(bell.recv(), 10)
        assert 'name="content"' in alice.get("/chat/")
        assert alice.api("/api/messages/", content="Hello from the last tab")[0] == 200
    statuses = []
    with ExitStack() as uploads:
        for _ in range(8):
            client = HTTPSConnection(installation.origin.removeprefix("https://"), timeout=0.5, context=alice.tls)
            uploads.callback(client.close)
            client.putrequest("POST", "/api/messages/")
            client.putheader("Content-Length", "1000000")
            client.endheaders(b"x")
            with suppress(TimeoutError):  # nginx waits for the rest
                statuses.append(client.getresponse().status)
    assert statuses == [503, 503]


@needs_nginx
async def test_pages_of_other_origins_are_refused_behind_https(installation: Installation) -> None:
    mallory = installation.browser()
    mallory.get("/chat/")
    other_port = re.sub(r":\d+$", ":1", installation.origin)
    for origin in ("https://evil.example", other_port, installation.origin.replace("https", "http")):
        assert mallory.form("/chat/messages/", origin=origin, content="Forged")[0] == 403
        with pytest.raises(InvalidStatus) as refused:
            await mallory.socket("/ws/chat/", origin)
        assert refused.value.response.status_code == 403


@needs_nginx
def test_plain_http_is_redirected_to_https_with_its_port(installation: Installation) -> None:
    connection = HTTPConnection("localhost", int(installation.machine.ports["80"]), timeout=10)
    connection.request("GET", "/chat/?host=x")
    response = connection.getresponse()
    assert (response.status, response.getheader("Location")) == (301, f"{installation.origin}/chat/?host=x")


@needs_nginx
def test_the_doctor_finds_nothing_wrong_behind_nginx(installation: Installation) -> None:
    command = "runuser -u chatsite -- .venv/bin/python manage.py doctor --url"
    certificate = installation.machine.root / "certificate.pem"
    said = installation.machine.run(f"cd /srv/chatsite\nSSL_CERT_FILE={certificate} {command} {installation.origin}")
    assert "\n0 problems, " in said
    for sentence in (
        f"ok       proxy: Scheme and host arrive: {installation.origin}\n",
        "ok       proxy: The client's address arrives (127.0.0.1), by 1 proxy.\n",
        "ok       headers: Content-Security-Policy and X-Frame-Options arrive unchanged.\n",
        "ok       compression: The proxy does not compress pages.\n",
        "ok       WebSockets: WebSockets work; ",
        "ok       static files: The static files are those of this version.\n",
    ):
        assert sentence in said
    assert "made them up" not in said


@needs_nginx
def test_nothing_is_written_beside_the_program_but_its_settings(installation: Installation) -> None:
    checkout = installation.machine.root / "srv/chatsite"
    made = {path.name for path in checkout.iterdir()} & {"files", "db.sqlite3", "tmp"}
    assert made == set()
    assert (checkout / ".env").stat().st_mode & 0o777 == 0o640
    state = installation.machine.root / "var/lib/chatsite"
    assert all(path.stat().st_mode & 0o077 == 0 for path in [state, *state.rglob("*")])


def written_in(conversation: str, browser: Browser) -> list[str]:
    """The texts of all messages of a conversation."""
    texts: list[str] = []
    since, more = 0, True
    while more:
        answer = json.loads(browser.get(f"/api/messages/{conversation}/?limit=1000&since={since}"))
        texts += [item["content"] for item in answer["items"]]
        since, more = answer["items"][-1]["id"], answer.get("more", False)
    return texts


class Writers:
    """Customers who write and read all the time, until the block ends. `errors` has what went wrong."""

    def __init__(self, installation: Installation, number: int = 2) -> None:
        self.installation = installation
        self.errors: list[str] = []
        self.acknowledged: dict[str, list[str]] = {}
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self.write) for _ in range(number)]

    def write(self) -> None:
        """Begin a conversation and write messages into it, one after the other; read each."""
        browser, conversation = self.installation.browser(), None
        texts: list[str] = []
        last = 0
        while not self.done.wait(0.05):
            text, client_id = f"Message {len(texts)}", str(uuid.uuid4())
            try:
                status, answer = browser.api(
                    f"/api/messages/?since={last}", content=text, client_id=client_id, conversation=conversation
                )
                if status != 200:
                    self.errors.append(f"{status} {answer}")
                    continue
                texts.append(text)
                conversation, last = answer["items"][-1]["conversation"], answer["items"][-1]["id"]
                status, page = browser.send("/chat/", None)
                if status != 200:
                    self.errors.append(f"{status} {page[:80]}")
            except (OSError, URLError, HTTPException, ValueError) as error:
                self.errors.append(repr(error))
        self.acknowledged[str(conversation)] = texts

    def __enter__(self) -> "Writers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.done.set()
        for thread in self.threads:
            thread.join(60)


@needs_nginx
def test_several_processes_are_upgraded_restart_and_die_and_nobody_sees_an_error(installation: Installation) -> None:
    machine = installation.machine
    start, restart = commands("running.md", "The processes")
    upgrade, _restart_of_one_process, restart_after_upgrade = commands("upgrading.md", "Upgrading")
    assert restart_after_upgrade == restart
    machine.run(start)
    with Writers(installation) as writers:
        machine.run(upgrade + restart)
        victim = machine.process(f"chatsite@{machine.ports['8000']}")
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        time.sleep(0.5)  # as long as systemd does not start it again
        machine.run("systemctl start chatsite@8000")
    assert writers.errors == []
    [backup] = (machine.root / "var/lib/chatsite-backups").iterdir()
    assert backup.stat().st_mode & 0o777 == 0o600
    assert len(writers.acknowledged) == 2
    for conversation, sent in writers.acknowledged.items():
        assert len(sent) > 10
        assert written_in(conversation, installation.browser()) == sent
