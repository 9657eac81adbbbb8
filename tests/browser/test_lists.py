"""The lists of the inbox in a browser: other lists beside a conversation, several rows at once, menus and keys."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.people import Agent, Api, People, eventually, unique_name
from tests.browser.test_accessibility import PHONE, TOUCH, check


def choose(agent: Agent, text: str) -> None:
    """Press a choice in the menu that is open."""
    agent.page.locator("#menu .options button", has_text=text).click()
    expect(agent.page.locator("#menu")).to_be_hidden()


def test_an_open_conversation_stays_open_while_the_list_changes(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Find me.", name=name)
    bob = people.agent()
    bob.opens(name)
    bob.field.fill("not sent yet")
    bob.tab("Mine").click()
    expect(bob.tab("Mine")).to_have_attribute("aria-current", "true")
    expect(bob.row(name)).to_have_count(0)
    expect(bob.field).to_have_value("not sent yet")
    expect(bob.page).to_have_url(re.compile(r"/inbox/\d+/\?whose=mine$"))
    bob.page.go_back()
    expect(bob.row(name)).to_have_attribute("aria-current", "true")
    expect(bob.tab("All")).to_have_attribute("aria-current", "true")


def test_keys_select_rows_snooze_them_and_undo_it(people: People, api: Api) -> None:
    one, two = unique_name(), unique_name()
    for name in (one, two):
        api.start_conversation("Hello", name=name)
    bob = people.agent()
    expect(bob.row(one)).to_be_visible()
    for key in ("j", "x", "j", "Shift+X"):
        bob.page.keyboard.press(key)
    expect(bob.page.locator(".picked")).to_have_text("2 selected")
    bob.page.keyboard.press("z")
    expect(bob.page.locator("#menu .options button").first).to_be_focused()
    bob.page.keyboard.press("Enter")
    expect(bob.row(one)).to_have_count(0)
    expect(bob.row(two)).to_have_count(0)
    bob.page.get_by_role("button", name="Undo").click()
    expect(bob.row(one)).to_have_count(1)
    expect(bob.row(two)).to_have_count(1)
    expect(bob.page.locator("pick-bar")).to_be_hidden()


def test_keys_go_on_from_the_next_row_when_one_has_left_the_list(people: People, api: Api) -> None:
    one, two, three = unique_name(), unique_name(), unique_name()
    for name in (one, two, three):
        api.start_conversation("Hello", name=name)
    bob = people.agent()
    expect(bob.row(three)).to_be_visible()
    bob.page.keyboard.press("j")
    bob.page.keyboard.press("j")
    expect(bob.row(two)).to_be_focused()
    bob.page.keyboard.press("e")
    expect(bob.row(two)).to_have_count(0)
    expect(bob.row(one)).to_be_focused()
    bob.page.keyboard.press("k")
    expect(bob.row(three)).to_be_focused()
    bob.page.get_by_role("button", name="Undo").press("Enter")
    expect(bob.row(two)).to_have_count(1)
    expect(bob.page.locator(".row:focus")).to_have_count(1)


def test_escape_leaves_the_field_so_that_keys_work(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    bob = people.agent()
    bob.opens(name)
    expect(bob.field).to_be_focused()
    bob.page.keyboard.press("Escape")
    expect(bob.page.locator(".thread")).to_be_focused()
    bob.page.keyboard.press("e")
    expect(bob.head).to_contain_text("Closed")


def test_the_sheet_of_filters_closes_and_keeps_the_focus(people: People) -> None:
    bob = people.agent(query="?status=closed")
    sheet, opener = bob.page.locator(".choice .sheet"), bob.page.locator(".choice summary")
    opener.press("Enter")
    bob.page.get_by_label("Priority").focus()
    bob.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(opener).to_be_focused()
    opener.click()
    expect(sheet).to_be_visible()
    bob.page.locator(".conversation-pane").click()
    expect(sheet).to_be_hidden()
    opener.click()
    bob.page.get_by_label("Priority").select_option("Urgent")
    bob.page.get_by_role("button", name="Show").press("Enter")
    expect(opener).to_have_text("Urgent")
    expect(sheet).to_be_hidden()
    expect(opener).to_be_focused()
    opener.click()
    sheet.get_by_role("link", name="See all open conversations.").click()
    expect(opener).to_have_text("Views and filters")


def test_the_menu_of_the_open_conversation_snoozes_no_message_that_comes_meanwhile(people: People, api: Api) -> None:
    name = unique_name()
    uuid = api.start_conversation("Hello", name=name)
    bob = people.agent()
    bob.opens(name)
    expect(bob.page.get_by_text("Hello").last).to_be_visible()
    bob.page.locator("#menu-snooze").click()
    expect(bob.page.locator("#menu .options button").first).to_be_focused()
    api.post("One more thing", uuid)
    bob.page.keyboard.press("Enter")
    expect(bob.page.locator("#done")).to_contain_text("1 stays open: it has a new message.")


def test_keys_mean_nothing_while_somebody_types(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    bob = people.agent()
    bob.opens(name)
    bob.field.press_sequentially("jakelzx")
    expect(bob.field).to_have_value("jakelzx")
    expect(bob.page.locator("#menu")).to_be_hidden()
    expect(bob.head).to_contain_text("Open")


def test_a_label_is_made_while_typing_and_shown_at_once(people: People, api: Api) -> None:
    name, word = unique_name(), unique_name()[:30]
    api.start_conversation("Hello", name=name)
    bob, carol = people.agent(), people.agent("carol")
    bob.opens(name)
    bob.head.locator("h2").click()  # nothing has the focus
    bob.page.keyboard.type("l" + word)  # faster than the menu comes
    expect(bob.page.locator("#menu .narrow")).to_have_value(word)
    bob.page.keyboard.press("Enter")
    expect(bob.head.locator(".chip")).to_have_text(word)
    expect(carol.row(name).locator(".chip")).to_have_text(word)
    bob.page.locator("#menu-assign").click()
    choose(bob, "Carol" if bob.page.locator("#menu .options button", has_text="Carol").count() else "carol")
    expect(bob.head).to_contain_text(re.compile("assigned to carol", re.IGNORECASE))


def test_after_a_change_the_button_of_its_menu_has_the_focus(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    bob = people.agent()
    bob.opens(name)
    bob.page.route("**/state/**", lambda route: route.abort())  # the header comes with the answer
    for words, change in (("to you", "Me"), ("unassigned", "Nobody")):
        bob.page.locator("#menu-assign").press("Enter")
        choose(bob, change)
        expect(bob.head).to_contain_text(words)
        expect(bob.page.locator("#menu")).to_be_hidden()
        expect(bob.page.locator("#menu-assign")).to_be_focused()
    bob.page.locator("#done").get_by_role("button").click()
    expect(bob.head).to_contain_text("to you")


def test_more_rows_come_while_scrolling_and_stay_when_the_list_updates(people: People, api: Api) -> None:
    names = [unique_name() for _ in range(60)]
    for name in names:
        api.start_conversation("Hello", name=name)
    bob = people.agent()
    expect(bob.row(names[0])).to_have_count(0)
    bob.page.locator("#list").evaluate("(list) => { list.scrollTop = list.scrollHeight; }")
    expect(bob.row(names[0])).to_have_count(1)
    latest = unique_name()
    api.start_conversation("Hello", name=latest)
    expect(bob.row(latest)).to_have_count(1)
    expect(bob.row(names[0])).to_have_count(1)


@pytest.mark.parametrize("key", ["j", "ArrowDown"])
def test_keys_lead_beyond_the_rows_that_came_with_the_page(people: People, api: Api, key: str) -> None:
    for _ in range(52):
        api.start_conversation("Hello", name=unique_name())
    bob = people.agent()
    rows = bob.page.locator("#list .row")
    expect(rows).to_have_count(50)
    rows.nth(48).focus()
    bob.page.keyboard.press(key)
    expect(rows.nth(49)).to_be_focused()
    expect(rows.nth(50)).to_be_attached()
    bob.page.keyboard.press(key)
    expect(rows.nth(50)).to_be_focused()


def test_menus_and_selected_rows_are_accessible(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    bob = people.agent(**TOUCH)
    bob.opens(name)
    bob.page.locator("#menu-label").click()
    expect(bob.page.locator("#menu .narrow")).to_be_focused()
    bob.page.keyboard.type(f"Label {name}"[:40])
    check(bob.page)
    bob.page.keyboard.press("Enter")
    expect(bob.head.locator(".chip").first).to_be_visible()
    for menu in ("assign", "priority", "snooze"):
        bob.page.locator(f"#menu-{menu}").click()
        expect(bob.page.locator("#menu-title")).to_be_visible()
        check(bob.page)
        bob.page.keyboard.press("Escape")
    bob.page.locator(".choice summary").click()
    check(bob.page)
    bob.page.locator(".choice summary").click()
    bob.page.locator(".pick input").first.check()
    check(bob.page)


def test_a_view_with_a_long_name_stays_within_its_sheet(people: People) -> None:
    long = "Wolfeschlegelsteinhausenbergerdorff and all of the others"
    bob = people.agent("bob", "?priority=4", **TOUCH)
    sheet = bob.page.locator(".choice")
    sheet.locator("summary").first.click()
    sheet.get_by_label("Name").fill(long)
    sheet.get_by_role("button", name="Save view").click()
    sheet.locator("summary").first.click()
    expect(sheet.get_by_role("link", name=long)).to_be_visible()
    check(bob.page)
    sheet.get_by_text(f"Delete the view “{long}”").click()
    check(bob.page)
    sheet.get_by_role("button", name="Delete").click()
    expect(sheet.get_by_role("link", name=long)).to_have_count(0)


def test_undo_is_offered_on_a_phone_and_covers_no_button(people: People, api: Api) -> None:
    name, other = unique_name(), unique_name()
    for each in (name, other):
        api.start_conversation("Hello", name=each)
    bob = people.agent(**PHONE)
    bob.opens(name)
    bob.page.locator("#menu-snooze").click()
    bob.page.get_by_role("button", name="In an hour").click()
    expect(bob.head).to_contain_text("Snoozed")
    bob.page.get_by_role("button", name="Undo").click()
    expect(bob.head).to_contain_text("Open")
    bob.page.locator("#note").click()
    bob.page.get_by_role("button", name="Mention a colleague").click()
    bob.page.get_by_role("option").first.click()  # which the notice does not cover
    expect(bob.field).to_have_value(re.compile("^@"))
    carol = people.agent("carol")
    carol.page.locator(".item", has_text=name).get_by_role("checkbox").check()
    carol.page.locator("#picks").get_by_role("button", name="Snooze").click()
    carol.page.get_by_role("button", name="In an hour").click()
    expect(carol.page.get_by_role("button", name="Undo")).to_be_visible()
    carol.page.locator(".item", has_text=other).get_by_role("checkbox").check()
    for button in ("Assign", "Close"):
        carol.page.locator("#picks").get_by_role("button", name=button).click(trial=True)
    carol.page.get_by_role("button", name="Undo").click(trial=True)


def test_another_list_begins_at_its_top(people: People, api: Api) -> None:
    names = [unique_name() for _ in range(12)]
    for each in names:
        api.start_conversation("Hello", name=each)
    bob = people.agent(viewport={"width": 1280, "height": 600})
    bob.row(names[0]).scroll_into_view_if_needed()
    eventually(bob.page, lambda: bob.page.evaluate("document.getElementById('list').scrollTop > 100"), "it is scrolled")
    bob.tab("Unassigned").click()
    expect(bob.tab("Unassigned")).to_have_attribute("aria-current", "true")
    eventually(
        bob.page, lambda: bob.page.evaluate("document.getElementById('list').scrollTop === 0"), "it is at its top"
    )


def test_without_scripts_rows_are_selected_by_boxes_and_changed_by_forms(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    bob = people.agent(java_script_enabled=False)
    bob.page.locator(".item", has_text=name).locator("input").check()
    bob.page.locator("#picks").get_by_role("button", name="Snooze").click()
    bob.page.get_by_role("button", name="In an hour").click()
    expect(bob.row(name)).to_have_count(0)
    bob.page.get_by_role("button", name="Undo").click()
    expect(bob.row(name)).to_have_count(1)
    bob.page.set_viewport_size({"width": 360, "height": 740})
    bob.row(name).click()
    bob.head.get_by_role("button", name="Snooze").click()
    bob.page.get_by_role("button", name="In an hour").click()
    expect(bob.head).to_contain_text("Snoozed until")
    bob.page.get_by_role("button", name="Undo").click()
    expect(bob.head).to_contain_text("Open")


def test_every_command_has_a_name_and_the_keys_have_a_map(people: People, api: Api) -> None:
    name = unique_name()
    api.start_conversation("Hello", name=name)
    bob = people.agent(**TOUCH)
    bob.opens(name)
    keyboard, menu = bob.page.keyboard, bob.page.locator("#menu")
    bob.field.focus()
    keyboard.press("Control+k")  # also while writing
    expect(menu.locator(".narrow")).to_be_focused()
    check(bob.page)
    keyboard.type("write a no")
    keyboard.press("Enter")
    expect(bob.page.locator("#writing.note #content")).to_be_focused()
    bob.head.locator("h2").click()
    keyboard.press("r")
    expect(bob.page.locator("#writing:not(.note) #content")).to_be_focused()
    bob.head.locator("h2").click()
    keyboard.press("?")
    expect(menu.get_by_role("region", name="In the list")).to_contain_text("Next and previous conversation")
    keys = menu.get_by_role("region", name="Keys")
    expect(keys).to_be_focused()
    keyboard.press("End")  # the map is longer than this screen
    eventually(bob.page, lambda: keys.evaluate("(keys) => keys.scrollTop > 0"), "the map scrolls by keys")
    check(bob.page)
    keyboard.press("Escape")
    keyboard.press("Control+k")
    keyboard.type("mine")
    expect(menu.locator(".narrow")).to_have_value("mine")
    keyboard.press("Enter")
    expect(bob.tab("Mine")).to_have_attribute("aria-current", "true")
    expect(menu).to_be_hidden()
    expect(bob.page).to_have_url(re.compile(r"whose=mine$"))
    keyboard.press("Control+k")
    keyboard.type(name[-8:])
    expect(menu.get_by_role("link", name=name)).to_be_visible()
    keyboard.press("Enter")
    expect(menu).to_be_hidden()
    expect(bob.head).to_contain_text(name)


def chooses_after_closing(agent: Agent, then: str) -> None:
    """Choose in the sheet of filters where to be after closing."""
    agent.page.locator(".choice summary").click()
    agent.page.locator(".sheet select[name=then]").select_option(then)
    agent.page.get_by_role("button", name="Save", exact=True).click()
    expect(agent.page.locator(".choice[open]")).to_have_count(0)


@pytest.mark.parametrize("then", ["next", "list"])
def test_closing_by_key_leads_on_and_can_be_undone(people: People, api: Api, then: str) -> None:
    first, second, third = (unique_name() for _ in range(3))
    for each in (first, second, third):
        api.start_conversation("Hello", name=each)
    carol = people.agent("carol")
    chooses_after_closing(carol, then)
    carol.opens(second)
    expect(carol.field).to_be_focused()
    carol.page.keyboard.press("Escape")
    carol.page.keyboard.press("e")
    if then == "next":
        expect(carol.head).to_contain_text(first)
    else:
        expect(carol.page.locator("#conversation")).to_contain_text("Choose a conversation")
        expect(carol.row(second)).to_have_count(0)
        expect(carol.row(first)).to_be_focused()  # which is in its place
    carol.page.locator("#done").get_by_role("button", name="Undo").click()
    expect(carol.row(second)).to_have_count(1)
    expect(carol.page).to_have_url(re.compile(r"/inbox/\d+/$" if then == "next" else "/inbox/$"))
    carol.page.go_back()
    expect(carol.head).to_contain_text(second)
    chooses_after_closing(carol, "stay")
