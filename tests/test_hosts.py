"""The loader on websites' pages, and its requests: which page the customer is on, and sign-out."""

import gzip
import json
import re
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache

from conversations.actions import post_message
from conversations.agent import customer_details
from conversations.customer import assets
from conversations.customer.assets import MIN_CONTRAST, accent_css, contrast
from conversations.models import Agent, Conversation, Website
from conversations.presence import visitor
from conversations.screen import bundles
from tests.conftest import Page, texts

pytestmark = pytest.mark.django_db
SHOP = "https://shop.example"
HERE = f"/chat/shop/here/?host={SHOP}"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"


@pytest.fixture
def shop() -> Website:
    """A website on https://shop.example."""
    website = Website.objects.create(key="shop", name="Fern & Fired", accent="#0a7d4f", position="left")
    website.origins.create(origin=SHOP)
    return website


@pytest.fixture
def chatting(alice: Page, shop: Website) -> Conversation:
    """A conversation that alice has begun in the shop's page."""
    alice.post(f"/chat/shop/messages/?host={SHOP}", {"content": "Hello"})
    return Conversation.objects.get()


def reports(page: Page, path: str = HERE, origin: str | None = SHOP, browser: str = FIREFOX, **report: Any) -> Any:
    """Send a report as the loader does."""
    headers = {"User-Agent": browser, **({"Origin": origin} if origin else {})}
    return page.post(path, json.dumps(report), content_type="text/plain", headers=headers)


def test_agents_see_which_page_the_customer_is_on(alice: Page, bobs: Page, chatting: Conversation) -> None:
    answer = reports(
        alice,
        url="https://shop.example/pots/blue",
        title="Blue pots",
        referrer="https://search.example/",
        language="pt-BR",
        zone="America/New_York",
    )
    assert answer.json() == {"unread": 0}
    assert answer["Access-Control-Allow-Origin"] == SHOP
    assert answer["Access-Control-Allow-Credentials"] == "true"
    about = bobs.get(f"/inbox/{chatting.pk}/about/").content.decode()
    for shown in ("Blue pots", "https://search.example/", "Firefox 128, Windows", "Portuguese", "America/New_York"):
        assert shown in about, shown
    assert 'href="https://shop.example/pots/blue"' in about


WEBKIT, CHROME = "AppleWebKit/605.1.15 (KHTML, like Gecko)", "AppleWebKit/537.36 (KHTML, like Gecko)"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {WEBKIT}"
ANDROID = f"Mozilla/5.0 (Linux; Android 10; K) {CHROME}"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Chrome/131.0.0.0 Safari/537.36"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/18.1 Safari/605.1.15"
BROWSERS = {
    WINDOWS: "Chrome 131, Windows",
    f"{WINDOWS} Edg/131.0.0.0": "Edge 131, Windows",
    f"{WINDOWS} OPR/115.0.0.0": "Opera 115, Windows",
    "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko": "Internet Explorer 11, Windows",
    MAC: "Safari 18, macOS",  # an iPad too: it says that it is a Mac
    f"{MAC} Ddg/18.1": "DuckDuckGo 18, macOS",
    f"{IPHONE} Version/18.1 Mobile/15E148 Safari/604.1": "Safari 18, iOS",
    f"{IPHONE} CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1": "Chrome 131, iOS",
    f"{IPHONE} FxiOS/133.0 Mobile/15E148 Safari/605.1.15": "Firefox 133, iOS",
    f"{IPHONE} EdgiOS/131.0.2903.48 Version/18.0 Mobile/15E148 Safari/604.1": "Edge 131, iOS",
    f"{IPHONE} Mobile/15E148 Instagram 330.0.3.29.91 (iPhone14,5; iOS 18_1; de_DE)": "Instagram 330, iOS",
    f"{IPHONE} Mobile/15E148": "Safari, iOS",  # inside an app that does not say which
    f"{ANDROID} Chrome/131.0.0.0 Mobile Safari/537.36": "Chrome 131, Android",
    f"{ANDROID} Chrome/131.0.0.0 Mobile Safari/537.36 EdgA/131.0.2903.48": "Edge 131, Android",
    f"{ANDROID} Version/4.0 Chrome/131.0.0.0 Mobile Safari/537.36": "Chrome 131, Android",  # inside an app
    f"{ANDROID} SamsungBrowser/26.0 Chrome/122.0.0.0 Mobile Safari/537.36": "Samsung Internet 26, Android",
    "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0": "Firefox 133, Android",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0": "Firefox 128, Ubuntu",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0": "Firefox 128, Linux",
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Chrome/131.0.0.0 Safari/537.36": "Chrome 131, ChromeOS",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": "Googlebot 2",
    "<script>alert(1)</script>": "",
    "": "",
}


def test_agents_see_which_browser_and_system_a_customer_has(alice: Page, bobs: Page, chatting: Conversation) -> None:
    seen = {}
    for browser in BROWSERS:
        cache.clear()
        reports(alice, url=SHOP, browser=browser)
        about = bobs.get(f"/inbox/{chatting.pk}/about/").content.decode()
        seen[browser] = about.partition("<dt>Browser</dt><dd>")[2].partition("</dd>")[0]
    assert seen == BROWSERS


def test_made_up_browsers_cost_little_and_only_when_an_agent_looks(
    alice: Page, bobs: Page, chatting: Conversation
) -> None:
    parsed = customer_details.browser_and_system.cache_info().misses
    for number in range(5):
        reports(alice, url=SHOP, browser=f"{number}" + "Linux OS " * 900)
        poll = f"/inbox/{chatting.pk}/messages/?since={chatting.last_message_id}&state=before"
        assert bobs.get(poll)["HX-Trigger"] == "state"
    assert customer_details.browser_and_system.cache_info().misses == parsed
    for _ in range(3):
        assert "<dt>Browser</dt><dd>Linux</dd>" in bobs.get(f"/inbox/{chatting.pk}/about/").content.decode()
    assert customer_details.browser_and_system.cache_info().misses == parsed + 1
    seen = visitor.get(chatting.pk)
    assert seen
    assert len(seen.browser) == visitor.MAX_LENGTH


def test_an_agents_page_notices_that_the_customer_went_to_another_page(
    alice: Page, bobs: Page, chatting: Conversation
) -> None:
    reports(alice, url="https://shop.example/a", title="A")
    page = bobs.get(f"/inbox/{chatting.pk}/").content.decode()
    found = re.search(r'id="shown-state" name="state" value="([^"]*)"', page)
    assert found
    poll = f"/inbox/{chatting.pk}/messages/"
    asked = {"since": chatting.last_message_id, "state": found[1]}
    assert "HX-Trigger" not in bobs.get(poll, asked)
    reports(alice, url="https://shop.example/b", title="B")
    assert bobs.get(poll, asked)["HX-Trigger"] == "state"


def test_agents_see_the_referrer_of_the_visit_and_not_of_every_page(
    alice: Page, bobs: Page, chatting: Conversation
) -> None:
    def came_from() -> str:
        about = bobs.get(f"/inbox/{chatting.pk}/about/").content.decode()
        return re.sub(r"<[^>]+>|\s", "", about.partition("Came from")[2].partition("</dd>")[0])

    reports(alice, url=f"{SHOP}/pots", referrer=f"{SHOP}/")
    assert came_from() == f"{SHOP}/"
    reports(alice, url=f"{SHOP}/", referrer="https://search.example/")
    reports(alice, url=f"{SHOP}/blue", referrer=f"{SHOP}/")
    assert came_from() == "https://search.example/"
    reports(alice, url=f"{SHOP}/", referrer="https://another.example/")
    assert came_from() == "https://another.example/"


def test_agents_see_that_their_customer_has_left_the_page(alice: Page, bobs: Page, chatting: Conversation) -> None:
    def has_left() -> bool:
        return "Left the page" in bobs.get(f"/inbox/{chatting.pk}/about/").content.decode()

    reports(alice, url=f"{SHOP}/a")
    assert not has_left()
    reports(alice, url=f"{SHOP}/a", left=1)
    assert has_left()
    reports(alice, url=f"{SHOP}/b")
    reports(alice, url=f"{SHOP}/a", left=1)  # it comes late
    assert not has_left()
    reports(alice, url=f"{SHOP}/b", left=1)
    alice.post(f"/chat/shop/messages/?host={SHOP}", {"content": "Here I am again"})
    assert not has_left()
    assert not Conversation.objects.exclude(pk=chatting.pk).exists()


@pytest.mark.parametrize(
    ("accepted", "shown"),
    [
        ("de,en-US;q=0.7,en;q=0.3", "German"),
        ("zh", "Simplified Chinese"),
        ("zh-TW,zh;q=0.9", "Traditional Chinese"),
        ("fil-PH", "fil-ph"),
    ],
)
def test_agents_see_the_preferred_language_of_the_browser(
    alice: Page, bobs: Page, chatting: Conversation, accepted: str, shown: str
) -> None:
    alice.post(HERE, "{}", content_type="text/plain", headers={"Origin": SHOP, "Accept-Language": accepted})
    assert f"<dd>{shown}</dd>" in bobs.get(f"/inbox/{chatting.pk}/about/").content.decode()
    reports(alice, language="ar")  # the page has chosen it
    assert "<dd>Arabic</dd>" in bobs.get(f"/inbox/{chatting.pk}/about/").content.decode()


def test_reporting_a_page_answers_the_unread_count(alice: Page, bob: Agent, chatting: Conversation) -> None:
    seen = chatting.last_message_id
    for text in ("Hi!", "Are you there?"):
        post_message(content=text, conversation=chatting, agent=bob)
    assert reports(alice, seen=seen).json() == {"unread": 2}
    assert reports(alice, seen=seen + 2).json() == {"unread": 0}
    assert reports(alice).json() == {"unread": 2}


def test_where_there_is_no_cookie_the_secret_comes_in_the_body(chatting: Conversation) -> None:
    assert reports(Page(), chat=chatting.uuid.hex).json() == {"unread": 0}
    assert reports(Page(), chat="0" * 32).status_code == 204
    assert reports(Page(), chat=1).status_code == 204


def test_nothing_is_noted_of_visitors_without_a_conversation(mallory: Page, shop: Website) -> None:
    assert reports(mallory, url="https://shop.example/").status_code == 204
    assert not Conversation.objects.exists()


def test_other_origins_are_refused_and_change_nothing(alice: Page, chatting: Conversation) -> None:
    for origin in ("https://evil.example", "null", None):
        for path in (
            HERE,
            "/chat/shop/here/",
            "/chat/shop/here/?host=https://evil.example",
            HERE.replace("here", "forget"),
        ):
            assert reports(alice, path, origin, url="https://evil.example/").status_code == 403, (origin, path)
    assert reports(alice, HERE.replace("shop/", "nowhere/", 1)).status_code == 404
    known = visitor.get(chatting.pk)
    assert known is None or "evil" not in known.url
    assert texts(alice.get(f"/chat/shop/?host={SHOP}")) == ["Hello"]


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", "1", '{"url": 1}', '{"seen": "x"}', '{"seen": -1}', "[" * 20000]
)
def test_malformed_bodies_are_ignored(alice: Page, chatting: Conversation, body: str) -> None:
    answer = alice.post(HERE, body, content_type="text/plain", headers={"Origin": SHOP})
    assert answer.status_code == 200


def test_what_a_browser_reports_is_escaped_and_bad_links_are_not_shown(
    alice: Page, bobs: Page, chatting: Conversation
) -> None:
    bad = "<img src=x onerror=alert(1)>"
    reports(alice, url="javascript:alert(1)", title=bad, referrer=bad, language=bad, zone="../../etc/passwd")
    about = bobs.get(f"/inbox/{chatting.pk}/about/").content.decode()
    assert "<img" not in about
    assert "&lt;img src=x onerror=alert(1)&gt;" in about
    assert 'href="javascript' not in about
    reports(alice, title="half a \ud800 pair")
    assert bobs.get(f"/inbox/{chatting.pk}/").status_code == 200
    reports(alice, url="https://shop.example/" + "x" * 9000, title="t" * 9000)
    assert len(visitor.get(chatting.pk).url) == visitor.MAX_LENGTH  # type: ignore[union-attr]


def test_signing_out_deletes_the_cookie_and_ends_the_secret_everywhere(
    alice: Page, bobs: Page, chatting: Conversation
) -> None:
    stolen = Page()
    stolen.cookies.load({name: morsel.value for name, morsel in alice.cookies.items()})
    assert texts(stolen.get(f"/chat/shop/?host={SHOP}")) == ["Hello"]
    gone = reports(alice, f"/chat/shop/forget/?host={SHOP}")
    assert gone.status_code == 204
    assert all(cookie["max-age"] == 0 and "Partitioned" in cookie.OutputString() for cookie in gone.cookies.values())
    assert texts(alice.get(f"/chat/shop/?host={SHOP}")) == []
    assert texts(stolen.get(f"/chat/shop/?host={SHOP}")) == []
    assert alice.get(f"/api/messages/{chatting.uuid}/").json()["count"] == 0
    assert "Hello" in bobs.get(f"/inbox/{chatting.pk}/").content.decode()


def test_signing_out_ends_the_cookie_and_the_secret_that_the_page_kept(alice: Page, chatting: Conversation) -> None:
    kept = Page().post(f"/chat/shop/messages/?host={SHOP}", {"content": "Earlier"}, headers={"X-Keep": "yes"})[
        "X-Secret"
    ]
    reports(alice, f"/chat/shop/forget/?host={SHOP}", chat=kept)
    for secret in (kept, chatting.uuid):
        assert alice.get(f"/api/messages/{secret}/").json()["count"] == 0


def test_reporting_pages_is_rate_limited(alice: Page, chatting: Conversation, settings: Any) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = {**settings.LIMITS, "visits of one address": (2, 60)}
    answers = [reports(alice) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1]["Retry-After"]) > 0


def test_signing_out_works_where_others_at_the_same_address_have_used_up_a_rate_limit(
    alice: Page, chatting: Conversation, settings: Any
) -> None:
    settings.RATE_LIMITS = True
    settings.LIMITS = dict.fromkeys(settings.LIMITS, (1, 60))
    assert [reports(Page()).status_code for _ in range(2)] == [204, 429]
    assert reports(alice, f"/chat/shop/forget/?host={SHOP}").status_code == 204
    assert not Conversation.objects.filter(uuid=chatting.uuid).exists()


# The loader ----------------------------------------------------------------------------------------------------------


def test_the_loader_contains_colours_and_position_for_the_requesting_page_only(alice: Page, shop: Website) -> None:
    Website.objects.create(key="secretclub", name="Club", accent="#aa0000").origins.create(
        origin="https://club.example"
    )
    mine = alice.get("/chat.js", headers={"Referer": f"{SHOP}/"})
    assert '{"shop":["#0a7d4f","left","#fff"]}' in mine.content.decode()
    assert "secretclub" not in mine.content.decode()
    assert 'shop":[' not in alice.get("/chat.js").content.decode()
    assert {"Referer", "Accept-Language", "Accept-Encoding"} <= set(mine["Vary"].split(", "))
    assert mine["Cache-Control"] == "private, max-age=300, no-transform"
    assert not mine.cookies


def test_the_loader_is_in_the_language_of_its_chat(alice: Page, shop: Website) -> None:
    def words(address: str, referer: str = "", accepted: str = "en") -> str:
        headers = {"Referer": referer, "Accept-Language": accepted}
        return alice.get(address, headers=headers).content.decode()

    sorry = {"en": "cannot be reached", "de": "nicht erreichbar", "fr": "joignable"}
    assert sorry["de"] in words("/chat.js", accepted="de")
    assert sorry["de"] in words("/chat.js?language=de")
    assert sorry["en"] in words("/chat.js?language=klingon")
    shop.languages = "fr de"
    shop.save()
    assert sorry["fr"] in words("/chat.js", f"{SHOP}/")
    assert sorry["de"] in words("/chat.js", f"{SHOP}/", "de")
    assert sorry["en"] in words("/chat.js")


@pytest.mark.parametrize(
    "origin",
    ["https://elsewhere.example", "https://www.shop.example", "http://shop.example", "https://shop.example:8443"],
)
def test_a_page_of_an_unlisted_origin_gets_a_warning_instead_of_the_loader(
    alice: Page, shop: Website, origin: str
) -> None:
    refused = alice.get("/chat.js?website=shop", headers={"Referer": f"{origin}/a/page"})
    text = refused.content.decode()
    assert "console.warn" in text
    assert "attachShadow" not in text
    assert f'"origin": "{origin}"' in text
    assert '"website": "shop"' in text
    assert '"admin": "http://testserver/admin/conversations/website/"' in text
    assert refused["Cache-Control"] == "no-store, private, no-transform"
    shop.origins.create(origin=origin)
    assert "attachShadow" in alice.get("/chat.js", headers={"Referer": f"{origin}/a/page"}).content.decode()


def test_refusals_take_no_place_among_the_compressed_files_that_are_kept(alice: Page, shop: Website) -> None:
    kept = bundles._compress.cache_info().currsize
    for number in range(3):
        headers = {"Referer": "https://mallory.example/", "Accept-Encoding": "br"}
        assert len(alice.get(f"/chat.js?website={number}{'x' * 5000}", headers=headers).content) < 2000
    assert bundles._compress.cache_info().currsize == kept


def test_the_address_of_the_loader_may_name_the_website(alice: Page, shop: Website) -> None:
    def loader(key: str, referer: str = f"{SHOP}/") -> str:
        return alice.get("/chat.js", {"website": key}, headers={"Referer": referer}).content.decode()

    assert '||"shop"' in loader("shop")
    assert '||"shop"' in loader("shop", "")
    assert '||"default"' in alice.get("/chat.js").content.decode()
    for wrong in ("nobody", '"+alert(1)+"', "default"):
        text = loader(wrong)
        assert "attachShadow" not in text
        assert f'"website": {json.dumps(wrong)}' in text


@pytest.mark.parametrize(
    "path", ["/chat.js", "/chat.js?language=de", "/favicon.ico", "/robots.txt", "/", "/chat/", "/api/website/shop/"]
)
def test_what_everybody_may_cache_varies_by_the_encoding_alone(alice: Page, shop: Website, path: str) -> None:
    answer = alice.get(path, headers={"Referer": f"{SHOP}/", "Accept-Language": "de"})
    assert answer.status_code in {200, 302}
    if "public" in answer.get("Cache-Control", ""):
        assert answer.get("Vary", "Accept-Encoding") == "Accept-Encoding"


def test_the_scripts_and_styles_of_the_chat_vary_by_the_encoding_alone(alice: Page) -> None:
    found = set(re.findall(r"/chat/[^\"'/ ]+\.(?:js|css)", alice.get("/chat/").content.decode()))
    assert len(found) == 4  # the style, the script and two modules
    for path in found:
        answer = alice.get(path)
        assert (answer.status_code, answer["Vary"]) == (200, "Accept-Encoding"), path


def test_the_chat_works_without_the_minifier(alice: Page, monkeypatch: Any) -> None:
    monkeypatch.setattr(bundles, "HAS_MINIFY", False)
    made = (assets._loader, assets._script, assets._module)
    for asset in made:
        asset.cache_clear()
    assert "window.Chatsite=" in alice.get("/chat.js").content.decode()
    assert "class ChatKeeper" in alice.get(assets.urls(Website.objects.default())["script"]).content.decode()
    for asset in made:
        asset.cache_clear()


@pytest.mark.skipif(not bundles.HAS_MINIFY, reason="scripts are not made as small as they are served elsewhere")
@pytest.mark.parametrize("language", [code for code, _ in settings.LANGUAGES])
def test_the_loader_is_at_most_three_kilobytes_in_every_language(alice: Page, language: str) -> None:
    packed = alice.get("/chat.js", headers={"Accept-Encoding": "gzip", "Accept-Language": language})
    assert packed["Content-Encoding"] == "gzip"
    assert len(packed.content) <= 3 * 1024


def test_static_files_of_the_chat_are_compressed_and_cached_for_ever(alice: Page) -> None:
    page = alice.get("/chat/").content.decode()
    addresses = re.findall(r'="(/chat/[^"/]*\.(?:js|css))"', page)
    assert len(addresses) == 4  # the style, the script and two modules
    for address in addresses:
        plain = alice.get(address)
        assert "immutable" in plain["Cache-Control"]
        packed = alice.get(address, headers={"Accept-Encoding": "gzip"})
        assert packed["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.content) == plain.content
        assert len(packed.content) < len(plain.content) / 2
        assert b"__TEXTS__" not in plain.content
        old = alice.get(re.sub("[0-9a-f]{12}", "000000000000", address))
        assert old.content == (b"location.reload();" if "/chat-" in address else plain.content)
        assert "immutable" not in old["Cache-Control"]


def test_modules_exist_in_the_languages_of_chats_only(alice: Page) -> None:
    page = alice.get("/chat/", headers={"Accept-Language": "de"}).content.decode()
    address = re.search(r"/chat/chat-seldom\.de\.\w+\.js", page)
    assert address
    assert "Bearbeiten" in alice.get(address[0]).content.decode()
    for made_up in ("chat-seldom.xx", "loader.en", "chat-keeper.en", "chat-seldom.EN"):
        assert alice.get(f"/chat/{made_up}.000000000000.js").status_code == 404


def test_the_module_for_signed_in_customers_is_preloaded_where_there_are_some(alice: Page, shop: Website) -> None:
    assert "modulepreload" not in alice.get("/chat/shop/").content.decode()
    Website.objects.filter(pk=shop.pk).update(identity_secret="only-for-tests-" * 4)
    assert 'rel="modulepreload" href="/chat/chat-secret.en.' in alice.get("/chat/shop/").content.decode()


def test_styles_exist_in_the_colours_of_websites_only(alice: Page, shop: Website) -> None:
    assert alice.get("/chat/style-0a7d4f-000000000000.css").status_code == 200
    for made_up in ("123456", "zzzzzz", "0a7d4", "0A7D4G"):
        assert alice.get(f"/chat/style-{made_up}-000000000000.css").status_code == 404


@pytest.mark.parametrize("accent", ["#4a51c7", "#0a7d4f", "#ffdd00", "#ffffff", "#000000", "#808080", "#ff4fa3"])
def test_every_accent_colour_has_readable_contrast(accent: str) -> None:
    for mode in accent_css(accent).split("@media"):
        named = {
            name: tuple(float(part) for part in rgb.split())
            for name, rgb in re.findall(r"--([\w-]+):rgb\(([\d ]+)\)", mode)
        }
        for ink, ground in (("on-accent", "accent"), ("accent-text", "accent-wash")):
            assert contrast(named[ink], named[ground]) >= MIN_CONTRAST, (accent, ink)  # type: ignore[arg-type]


def test_pages_of_chatsite_itself_have_the_button_without_being_listed(db: None, alice: Page) -> None:
    script = alice.get("/chat.js", headers={"Referer": "http://testserver/"})
    assert b"attachShadow" in script.content
    assert b"attachShadow" not in alice.get("/chat.js", headers={"Referer": "https://elsewhere.example/"}).content
