"""Attaching files and seeing them, in a browser."""

import base64
import re
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Dialog, FilePayload, Locator, Page, Route, expect

from tests.browser.people import Agent, Api, Customer, People, Person, eventually, unique_name
from tests.browser.websites import Web

pytestmark = pytest.mark.browser


def photo(width: int = 800, height: int = 600) -> bytes:
    """A picture."""
    file = BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "JPEG")
    return file.getvalue()


def payload(name: str, content: bytes) -> FilePayload:
    """A file on somebody's disk."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def attaches(person: Person, *files: FilePayload) -> None:
    """Choose files with the paperclip."""
    person.page.get_by_label("Attach files").set_input_files(list(files))


def chips(person: Person) -> Locator:
    """The files that are attached and not sent yet."""
    return person.page.locator(".composer .file")


def brings(person: Person, how: str, name: str, content: bytes, onto: str) -> None:
    """Paste a file, or drop one."""
    person.page.evaluate(
        """([how, name, content, onto]) => {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], name));
        const place = document.querySelector(onto);
        const init = { bubbles: true, cancelable: true };
        const event = how === "paste"
            ? new ClipboardEvent("paste", { ...init, clipboardData: data })
            : new DragEvent(how, { ...init, dataTransfer: data });
        if (place.dispatchEvent(event)) throw new Error("The browser would have opened it itself.");
    }""",
        [how, name, base64.b64encode(content).decode(), onto],
    )


def pictures(person: Person) -> Locator:
    """The pictures in the thread."""
    return person.page.locator("#messages .files img")


def shows_pictures(person: Person, count: int) -> None:
    """Wait until this many pictures are loaded and shown."""
    expect(pictures(person)).to_have_count(count)
    shown = "(images) => images.every((image) => image.complete && image.naturalWidth > 0)"
    eventually(person.page, lambda: bool(pictures(person).evaluate_all(shown)), "the pictures are shown")


def is_opened(window: Page, name: str = "") -> None:
    """The picture of photo() is open in a new window, with its name as the title."""
    window.wait_for_url("**/files/**")
    size = "() => [document.images[0]?.naturalWidth, document.images[0]?.naturalHeight]"
    eventually(window, lambda: bool(window.evaluate(size) == [800, 600]), "the picture is open")
    assert name in window.title()


def only_blocked_scripts_complained(people: People) -> None:
    """The only complaints are that a file's page blocked scripts, such as the one of people.browser()."""
    assert all(complaint.startswith("Blocked script execution") for complaint in people.errors), people.errors
    people.errors.clear()


def test_files_are_chosen_and_both_sides_see_them_once(people: People) -> None:
    alice, bob = people.customer(), people.agent()
    attaches(alice, payload("beach.jpg", photo()), payload("offer.pdf", b"%PDF-1.7"))
    expect(chips(alice)).to_have_count(2)
    expect(chips(alice).first).to_have_text(re.compile(r"beach\.jpg \d.* kB"))
    expect(chips(alice).last).to_have_text("offer.pdf 8 bytes")
    name = unique_name()
    alice.says(f"Look, says {name}")
    alice.shows(f"Look, says {name}")
    expect(chips(alice)).to_have_count(0)
    bob.opens(name)
    for person in (alice, bob):
        shows_pictures(person, 1)
        expect(person.page.locator("#messages a.file")).to_have_text("offer.pdf 8 bytes")
    with bob.page.expect_download() as download:
        bob.page.get_by_role("link", name="offer.pdf").click()
    assert download.value.suggested_filename == "offer.pdf"
    with bob.page.context.expect_page() as opened:
        pictures(bob).click()
    is_opened(opened.value)
    only_blocked_scripts_complained(people)
    attaches(bob, payload("answer.png", photo()))
    expect(chips(bob)).to_have_count(1)
    bob.page.get_by_role("button", name="Send").click()
    for person in (alice, bob):
        shows_pictures(person, 2)
    person.reloads()
    shows_pictures(person, 2)


def test_files_are_pasted_dropped_and_removed_again(people: People) -> None:
    alice = people.customer(viewport={"width": 360, "height": 720})
    brings(alice, "paste", "pasted.png", photo(), "#content")
    expect(chips(alice)).to_have_count(1)
    brings(alice, "dragover", "dropped.txt", b"x", ".thread")
    expect(alice.page.locator(".dropping")).to_have_count(1)
    brings(alice, "drop", f"dropped {'far ' * 20}.txt", b"dropped", ".thread")
    expect(alice.page.locator(".dropping")).to_have_count(0)
    expect(chips(alice)).to_have_count(2)
    assert alice.page.locator(".composer").evaluate("(composer) => composer.scrollWidth") == 360
    alice.page.get_by_role("button", name="Remove pasted.png").click()
    expect(chips(alice)).to_have_count(1)
    expect(alice.field).to_be_focused()
    alice.field.press("Enter")
    expect(alice.page.locator("#messages a.file .name")).to_have_text(re.compile("^dropped far"))
    expect(alice.page.locator("#messages .message")).to_have_count(1)


def drops(person: Person, onto: str, *files: Path) -> None:
    """Drop files with the mouse: the browser opens a file whose drop no script handles."""
    box = person.page.locator(onto).bounding_box()
    assert box is not None
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + min(box["height"] / 2, 40)}
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    hand = person.page.context.new_cdp_session(person.page)
    for step in ("dragEnter", "dragOver", "drop"):
        hand.send("Input.dispatchDragEvent", {"type": step, **place, "data": data})
    hand.detach()


def is_taken(person: Person) -> bool:
    """Whether the page has prevented the default of the drag."""
    return bool(person.page.evaluate("window.isTaken"))


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """A file on the disk."""
    note = tmp_path / "note.txt"
    note.write_text("a note")
    return note


def test_a_file_that_is_dropped_beside_the_thread_is_attached_too(people: People, api: Api, note: Path) -> None:
    name = unique_name()
    api.start_conversation(f"Hello from {name}", name=name)
    alice, bob = people.customer(), people.agent()
    bob.opens(name)
    for person, places in ((alice, ("html", ".chat-head")), (bob, ("#list", "#about", ".bar"))):
        for count, place in enumerate(places, start=1):
            drops(person, place, note)
            expect(chips(person)).to_have_count(count)
            expect(person.page.locator(".dropping")).to_have_count(0)
    bob.field.press("Enter")
    expect(bob.page.locator("#messages a.file")).to_have_count(3)


def test_a_dropped_file_never_replaces_the_page(people: People, note: Path) -> None:
    key = f"no-files-{unique_name()[6:]}"
    people.server.manage("addwebsite", "No files", "--key", key)
    change = f"Website.objects.filter(key='{key}').update(attachments=False)"
    people.server.manage("shell", "-c", f"from conversations.models import Website\n{change}")
    alice, bob = people.customer(), people.agent()
    alice.goes(f"/chat/{key}/")
    watch = "addEventListener('dragover', (event) => (window.isTaken = event.defaultPrevented))"
    for person, place in ((alice, ".thread"), (alice, "html"), (bob, "#conversation"), (bob, "#list")):
        person.page.evaluate(watch)
        drops(person, place, note)
        eventually(person.page, partial(is_taken, person), "the browser leaves it alone")
        person.reloads()


def test_too_large_and_too_many_files_are_refused_before_they_are_sent(people: People) -> None:
    alice = people.customer()
    attaches(alice, payload("film.mov", bytes(10 * 1024 * 1024 + 1)))
    problem = alice.page.locator(".composer .problem")
    expect(problem).to_have_text("“film.mov” is larger than 10 MB. Please send a smaller file.")
    attaches(alice, *[payload(f"{number}.txt", b"x") for number in range(6)])
    expect(problem).to_have_text("A message takes at most 5 files. Please send them in several.")
    expect(chips(alice)).to_have_count(0)
    attaches(alice, payload("small.txt", b"x"))
    expect(chips(alice)).to_have_count(1)
    expect(problem).to_be_hidden()
    attaches(alice, payload("$&.mov", bytes(10 * 1024 * 1024 + 1)), payload("another.txt", b"x"))
    expect(problem).to_have_text("“$&.mov” is larger than 10 MB. Please send a smaller file.")
    expect(chips(alice).locator(".name")).to_have_text(["small.txt", "another.txt"])


def test_an_empty_file_is_refused_before_it_is_sent_and_folders_are_ignored(people: People, tmp_path: Path) -> None:
    alice = people.customer()
    problem = alice.page.locator(".composer .problem")
    attaches(alice, payload("empty.txt", b""), payload("full.txt", b"x"))
    expect(problem).to_have_text("“empty.txt” is empty. Please choose it again.")
    expect(chips(alice).locator(".name")).to_have_text(["full.txt"])
    folder, more = tmp_path / "folder", tmp_path / "more.txt"
    folder.mkdir()
    more.write_text("x")
    drops(alice, ".thread", folder, more)
    expect(chips(alice).locator(".name")).to_have_text(["full.txt", "more.txt"])
    expect(problem).to_be_hidden()


def test_a_long_name_is_shown_with_its_ending(people: People) -> None:
    alice = people.customer(viewport={"width": 320, "height": 640})
    name = f"Invoice of the {'very ' * 9}longest_{'name_' * 9}.pdf"
    alice.page.set_input_files("input[type=file]", payload(name, b"%PDF"))
    is_whole = "(name) => name.scrollWidth <= name.clientWidth && name.clientHeight > 40"
    expect(chips(alice).locator(".name")).to_have_text(name)
    assert chips(alice).locator(".name").evaluate(is_whole)
    alice.page.get_by_role("button", name="Send").click()
    shown = alice.page.locator("#messages a.file .name")
    expect(shown).to_have_text(name)
    assert shown.evaluate(is_whole)
    assert alice.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_a_name_with_quotes_is_shown_as_it_is(people: People) -> None:
    alice = people.customer()
    attaches(alice, payload('Price 3" pot.txt', b"x"))
    expect(chips(alice).locator(".name")).to_have_text('Price 3" pot.txt')
    alice.field.press("Enter")
    expect(alice.page.locator("#messages a.file .name")).to_have_text('Price 3" pot.txt')


def test_a_message_with_files_is_shown_at_once_and_retries_do_not_double_it(people: People) -> None:
    alice = people.customer()
    alice.says("First")
    alice.shows("First")
    tries: list[str | None] = []

    def lose_the_answer(route: Route) -> None:
        if route.request.method == "POST":
            tries.append(route.request.header_value("content-type"))
            if len(tries) < 3:
                route.fetch()
                route.abort()
                return
        route.continue_()

    alice.page.route("**/messages/*", lose_the_answer)
    attaches(alice, payload("once.jpg", photo()))
    expect(chips(alice)).to_have_count(1)
    alice.field.press("Enter")
    expect(alice.page.locator(".pending .file, #messages img")).to_have_count(1)
    shows_pictures(alice, 1)
    expect(alice.pending).to_have_count(0)
    assert all(kind and kind.startswith("multipart/form-data") for kind in tries)
    alice.reloads()
    shows_pictures(alice, 1)


def test_leaving_with_unsent_files_warns_and_the_message_is_not_sent_without_them(people: People) -> None:
    alice = people.customer()
    alice.page.route("**/messages/", lambda route: None)  # it is on its way, and neither sent nor failed
    attaches(alice, payload("big.bin", b"x"))
    expect(chips(alice)).to_have_count(1)
    alice.says("With a file")
    expect(alice.pending).to_have_count(1)
    warned: list[str] = []

    def leave(dialog: Dialog) -> None:
        warned.append(dialog.type)
        dialog.accept()

    alice.page.once("dialog", leave)
    alice.page.evaluate("location.reload()")
    eventually(alice.page, lambda: warned == ["beforeunload"], "the browser asks whether to leave")
    expect(alice.pending).to_contain_text("Please attach them again.")
    alice.page.unroute("**/messages/")  # not before: it would have been sent from the page that is left
    alice.pending.get_by_role("button", name="Edit").click()
    expect(alice.field).to_have_value("With a file")
    expect(alice.pending).to_have_count(0)
    alice.field.fill("")


def test_chosen_files_stay_with_their_conversation(people: People, api: Api) -> None:
    one, two = unique_name(), unique_name()
    for name in (one, two):
        api.start_conversation(f"Hello from {name}", name=name)
    bob = people.agent()
    bob.opens(one)
    attaches(bob, payload("for-one.txt", b"x"))
    expect(chips(bob)).to_have_count(1)
    bob.opens(two)
    expect(chips(bob)).to_have_count(0)
    bob.opens(one)
    expect(chips(bob)).to_have_text(re.compile("for-one.txt"))
    bob.field.press("Enter")
    expect(bob.page.locator("#messages a.file")).to_have_count(1)


def test_the_layout_does_not_shift_when_pictures_load(people: People, api: Api) -> None:
    alice = people.customer()
    attaches(alice, payload("tall.jpg", photo(600, 1200)), payload("wide.png", photo(1200, 100)))
    expect(chips(alice)).to_have_count(2)
    alice.says("Below?")
    shows_pictures(alice, 2)
    boxes = "(images) => images.map((image) => [image.offsetWidth, image.offsetHeight])"
    loaded = pictures(alice).evaluate_all(boxes)
    alice.page.route("**/files/**", lambda route: None)  # they do not come
    alice.page.reload(wait_until="domcontentloaded")
    expect(pictures(alice)).to_have_count(2)
    assert pictures(alice).evaluate_all(boxes) == loaded
    alice.page.unroute("**/files/**")


def test_pictures_and_files_load_where_the_secret_is_sent_in_a_header(people: People, api: Api) -> None:
    """As in a frame whose cookies are blocked: the secret is in the frame's own storage, and sent in a header."""
    secret = api.start_conversation("Hello")
    context = people.browser()
    keep = f"localStorage.setItem('chat /chat/ ', '{secret}')"
    context.add_init_script(f"try {{ {keep} }} catch {{ /* a file that is looked at has no storage */ }}")
    alice = Customer(context.new_page(), people.server.url)
    alice.comes()
    alice.shows("Hello")
    attaches(
        alice, payload("beach.jpg", photo()), payload("poster.jpg", photo(4000, 4000)), payload("note.txt", b"a note")
    )
    expect(chips(alice)).to_have_count(3)
    alice.says("No cookies here")
    alice.shows("Hello", "No cookies here")
    for _ in range(2):
        shows_pictures(alice, 2)
        assert str(pictures(alice).first.get_attribute("src")).startswith("blob:")
        alice.reloads()
    shows_pictures(alice, 2)
    with alice.page.expect_download() as download:
        alice.page.get_by_role("link", name="Original, ").click()
    assert download.value.suggested_filename == "poster.jpg"
    with Image.open(download.value.path()) as original:
        assert original.size == (4000, 4000)
    with alice.page.expect_download() as download:
        alice.page.get_by_role("link", name="note.txt").click()
    assert download.value.suggested_filename == "note.txt"
    assert download.value.path().read_bytes() == b"a note"
    with context.expect_page() as opened:
        pictures(alice).first.click()
    is_opened(opened.value, "beach.jpg")
    assert secret.replace("-", "") not in opened.value.url.replace("-", "")
    assert context.cookies() == []
    only_blocked_scripts_complained(people)


def test_a_picture_in_an_embedded_chat_opens_in_a_new_window(web: Web) -> None:
    alice = web.customer_on(web.shop.cross_site, web.shop.page())
    alice.opens()
    alice.says("Look")
    alice.shows("Look")
    alice.frame.get_by_label("Attach files").set_input_files([payload("beach.jpg", photo())])
    expect(alice.frame.locator(".composer .file")).to_have_count(1)
    alice.field.press("Enter")
    with alice.page.context.expect_page() as opened:
        alice.frame.locator("#messages .files img").click()
    is_opened(opened.value, "beach.jpg")
    only_blocked_scripts_complained(web)
    alice.shows("Look", "")


def test_files_are_sent_by_the_form_without_javascript(people: People) -> None:
    alice = people.customer(java_script_enabled=False)
    picker = alice.page.get_by_label("Attach files")
    expect(picker).to_be_visible()
    picker.set_input_files([payload("beach.jpg", photo())])
    alice.field.fill("By a form")
    alice.page.get_by_role("button", name="Send").click()
    alice.sees("By a form")
    shows_picture_without_script(alice)
    bob = people.agent(java_script_enabled=False)
    bob.row("By a form").click()
    shows_picture_without_script(bob)


def shows_picture_without_script(person: Customer | Agent) -> None:
    """The picture is shown and can be fetched with the cookie alone."""
    expect(pictures(person)).to_have_count(1)
    address = f"{person.url}{pictures(person).get_attribute('src')}"
    assert person.page.request.get(address).headers["content-type"] == "image/webp"


def pastes(person: Person, text: str, *names: str, html: str = "") -> None:
    """Paste a clipboard with files and text, as other programs fill it; type the text if the page lets it."""
    person.page.evaluate(
        """([text, names, html]) => {
        const data = new DataTransfer();
        for (const name of names) data.items.add(new File(["content"], name));
        if (text) data.setData("text/plain", text);
        if (html) data.setData("text/html", html);
        const field = document.querySelector("#content");
        field.focus();
        const event = new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: data });
        if (field.dispatchEvent(event)) document.execCommand("insertText", false, text);
    }""",
        [text, list(names), html],
    )


COPIED_FILES = [
    ("photo.png", ["photo.png"]),  # Finder
    ("/home/alice/my photo.png", ["my photo.png"]),  # Nautilus
    ("file:///home/alice/%C3%BCber%20100%25.png\r\n", ["über 100%.png"]),
    ("file:///home/alice/100%.png", ["100%.png"]),
    ("C:\\Users\\alice\\photo.png\r\nC:\\Users\\alice\\b.txt", ["photo.png", "b.txt"]),  # Explorer
    ("x-special/nautilus-clipboard\ncopy\nfile:///home/a.png\nfile:///home/b.txt\n", ["a.png", "b.txt"]),
    ("cafe\u0301.png", ["caf\u00e9.png"]),
]


@pytest.mark.parametrize("who", ["customer", "agent"])
def test_a_copied_file_is_pasted_as_a_file_and_copied_text_as_text(people: People, api: Api, who: str) -> None:
    person: Person = people.customer()
    if who == "agent":
        name = unique_name()
        api.start_conversation("May I see it?", name=name)
        bob = people.agent()
        bob.opens(name)
        person = bob
    for text, names in COPIED_FILES:
        pastes(person, text, *names)
        expect(chips(person)).to_have_count(len(names))
        for name in names:
            person.page.get_by_role("button", name=f"Remove {name}").click()
        expect(person.field).to_have_value("")
    pastes(person, "1\t2", "image.png", html="<table><tr><td>1<td>2</table>")  # Excel
    expect(person.field).to_have_value("1\t2")
    person.field.fill("")
    pastes(person, "photo of a cat", "image.png")
    expect(person.field).to_have_value("photo of a cat")
    expect(chips(person)).to_have_count(0)
