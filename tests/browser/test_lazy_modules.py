"""Modules that are loaded on demand: what happens while one is loading, and when it cannot be loaded."""

import re

import pytest
from playwright.sync_api import BrowserContext, Download, Page, Route, expect

from tests.browser.people import Api, People, Person, eventually, unique_name
from tests.browser.test_attachments import attaches, brings, chips, payload, photo
from tests.browser.websites import Requests, Site, Web, block_cookies, token

pytestmark = pytest.mark.browser

NOTE = payload("note.txt", b"a note")
OFFLINE = "There is no connection. Try again."


def modules(asked: Requests) -> list[str]:
    """The names of the modules that were requested."""
    return [found[1] for _, path, _ in asked.all if (found := re.match(r"/chat/([\w-]+)\.en\.\w+\.js", path))]


def is_missing(where: Page | BrowserContext, name: str) -> None:
    """Fail requests for this module until `allow`."""
    where.route(f"**/chat/{name}.*", lambda route: route.abort())


def comes_again(where: Page | BrowserContext, name: str) -> None:
    """Let requests for this module through again."""
    where.unroute(f"**/chat/{name}.*")


def test_sending_text_loads_no_more_modules(web: Web) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    asked = Requests(alice.page, web.server.url)
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")
    alice.reloads()
    alice.shows("Hello")
    assert [path for _, path, _ in asked.all if path.startswith("/chat/script-")]
    assert set(modules(asked)) <= {"chat-live"}, "which comes with the conversation"


def test_files_load_their_module_once(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation(f"Hello from {name}", name=name)
    alice, bob = people.customer(), people.agent()
    bob.opens(name)
    for person in (alice, bob):
        asked = Requests(person.page, person.url)
        person.types("Here it is")
        assert modules(asked) == []
        attaches(person, NOTE)
        expect(chips(person)).to_have_count(1)
        brings(person, "paste", "pasted.png", photo(), "#content")
        expect(chips(person)).to_have_count(2)
        assert modules(asked) == ["chat-seldom"]


def tries_in_vain_and_then_again(person: Person, *, dropping: bool) -> None:
    """Attach a file while the module fails to load, and again when it loads."""

    def bring() -> None:
        if dropping:
            brings(person, "drop", "dropped.txt", b"x", ".thread")
        else:
            attaches(person, NOTE)

    problem = person.page.locator(".composer .problem")
    is_missing(person.page, "chat-seldom")
    bring()
    expect(problem).to_have_text(OFFLINE)
    expect(chips(person)).to_have_count(0)
    comes_again(person.page, "chat-seldom")
    bring()
    expect(chips(person)).to_have_count(1)
    expect(problem).to_be_hidden()
    person.field.press("Enter")
    expect(person.page.locator("#messages a.file")).to_have_count(1)


@pytest.mark.parametrize("dropping", [False, True], ids=["chosen", "dropped"])
def test_a_file_can_be_attached_again_after_its_module_failed_to_load(people: People, api: Api, dropping: bool) -> None:
    name = unique_name()
    api.start_conversation(f"Hello from {name}", name=name)
    bob = people.agent()
    bob.opens(name)
    for person in (people.customer(), bob):
        tries_in_vain_and_then_again(person, dropping=dropping)


def test_a_message_that_is_too_long_is_not_sent_although_its_module_fails_to_load(people: People) -> None:
    alice = people.customer()
    problem = alice.page.locator(".composer .problem")
    is_missing(alice.page, "chat-seldom")
    alice.says("x" * 20481)
    expect(problem).to_have_text(OFFLINE)
    expect(alice.pending).to_have_count(0)
    comes_again(alice.page, "chat-seldom")
    alice.field.press("End")
    alice.page.keyboard.type("y")
    expect(problem).to_have_text("That is 2 characters too long. Please send it in parts of 20,480.")
    alice.says("Short")
    alice.shows("Short")


def test_the_reason_of_a_refusal_is_shown_once_its_module_loads(people: People) -> None:
    alice = people.customer()
    answers = {"refusing": True}

    def refuse(route: Route) -> None:
        if route.request.method == "POST" and answers["refusing"]:
            return route.fulfill(status=422, content_type="text/plain; charset=utf-8", body="No bread today.")
        return route.continue_()

    alice.page.route("**/messages/*", refuse)
    is_missing(alice.page, "chat-seldom")
    alice.says("Bread, please")
    expect(alice.pending).to_contain_text("Not sent yet, trying again…")
    comes_again(alice.page, "chat-seldom")
    expect(alice.pending.locator(".delivery")).to_have_text("Not sent. No bread today.")
    expect(alice.pending.get_by_role("button")).to_have_text(["Try again", "Edit"])
    alice.pending.get_by_role("button", name="Try again").click()
    expect(alice.pending.get_by_role("button")).to_have_text(["Try again", "Edit"])
    answers["refusing"] = False
    alice.pending.get_by_role("button", name="Edit").click()
    expect(alice.field).to_have_value("Bread, please")
    alice.field.press("Enter")
    alice.shows("Bread, please")


def test_a_secret_is_kept_although_its_module_loads_late(web: Web) -> None:
    context = web.browser()
    block_cookies(context, web.server.url)
    alice = web.customer_on(web.shop.cross_site, web.shop.page(), context=context)
    is_missing(context, "chat-secret")
    hello = f"Hello from {unique_name()}"
    alice.opens()
    alice.says(hello)
    expect(alice.pending).to_contain_text("Not sent yet, trying again…")
    comes_again(context, "chat-secret")
    alice.shows(hello)
    eventually(
        alice.page, lambda: "chat" in alice.local_storage().get("chatsite shop", ""), "the page keeps the secret"
    )
    alice.reloads()
    alice.shows(hello)


def test_an_identity_token_is_sent_although_its_module_loads_late(web: Web, members: Site) -> None:
    alice = web.customer_on(members.cross_site, members.page(script=members.script("club")))
    alice.page.clock.install()
    is_missing(alice.page, "chat-secret")
    alice.calls("identify", token(unique_name()))
    with alice.page.expect_event("requestfailed"):
        alice.button.click()
    expect(alice.frame.get_by_text("Please sign in to The club to send a message.")).to_be_visible()
    expect(alice.field).to_be_hidden()
    comes_again(alice.page, "chat-secret")
    alice.page.clock.run_for(16_000)  # it is tried again after 15 s
    expect(alice.field).to_be_visible()
    alice.says("Hello from a member")
    alice.shows("Hello from a member")


def test_a_message_whose_files_are_gone_says_so_once_its_module_loads(people: People) -> None:
    alice = people.customer()
    alice.page.route("**/messages/", lambda route: route.abort())
    attaches(alice, NOTE)
    expect(chips(alice)).to_have_count(1)
    alice.says("With a file")
    expect(alice.pending).to_contain_text("Not sent yet, trying again…")
    is_missing(alice.page, "chat-seldom")
    alice.page.once("dialog", lambda dialog: dialog.accept())
    alice.page.evaluate("location.reload()")
    expect(alice.page.locator(".composer .problem")).to_have_text(OFFLINE)
    comes_again(alice.page, "chat-seldom")
    alice.page.evaluate("dispatchEvent(new Event('online'))")
    expect(alice.pending).to_contain_text("Please attach them again.")
    expect(alice.pending.get_by_role("button")).to_have_text(["Edit"])


def test_a_message_is_sent_again_after_a_200_that_is_not_from_chatsite(people: People) -> None:
    alice = people.customer()
    alice.says("Hello")
    alice.shows("Hello")
    alice.page.route("**/messages/", lambda route: route.fulfill(status=200, body="Welcome to our hotel"), times=1)
    alice.says("Is it there?")
    alice.shows("Hello", "Is it there?")


def test_a_file_clicked_twice_is_downloaded_once(web: Web) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.opens()
    alice.says("Here it is")
    alice.shows("Here it is")
    alice.frame.get_by_label("Attach files").set_input_files([NOTE])
    expect(alice.frame.locator(".composer .file")).to_have_count(1)
    alice.field.press("Enter")
    link = alice.frame.locator("#messages a.file")
    expect(link).to_have_count(1)
    saved: list[Download] = []
    alice.page.on("download", lambda download: saved.append(download))
    link.dblclick()
    eventually(alice.page, lambda: len(saved) == 1, "the file is saved")
    assert saved[0].path().read_bytes() == b"a note"


def test_a_page_from_before_an_update_is_reloaded_when_it_needs_a_module(people: People) -> None:
    alice = people.customer()
    alice.says("Hello")
    alice.sees("Hello")
    alice.types("Half a sent")
    alice.page.evaluate(
        """() => {
            const composer = document.querySelector("chat-composer")
            composer.dataset.module = composer.dataset.module.replace(/\\w+\\.js$/, "000000000000.js")
        }"""
    )
    with alice.page.expect_navigation():
        alice.page.set_input_files("input[type=file]", NOTE)
    people.errors.clear()  # the old page misses what it asked for
    expect(alice.field).to_have_value("Half a sent")
    attaches(alice, NOTE)
    expect(chips(alice)).to_have_count(1)
