"""Elements that users of a website write into its pages, named like globals, do not mislead the loader.

See https://html.spec.whatwg.org/multipage/nav-history-apis.html#named-access-on-the-window-object (DOM clobbering).
"""

import pytest

from tests.browser.websites import EmbeddedCustomer, Requests, Web

pytestmark = pytest.mark.browser

CLOBBERED = [
    "currentScript",
    "Chatsite",
    "documentElement",
    "createElement",
    "createElementNS",
    "body",
    "head",
    "title",
    "referrer",
    "hidden",
    "cookie",
    "forms",
    "location",
    "addEventListener",
    "localStorage",
    "fetch",
    "customElements",
    "Document",
    "open",
    "push",
]


@pytest.mark.parametrize(
    "element",
    [
        '<img name="{name}" id="{name}" src="{evil}/x.png" data-website="rival">',
        '<form name="{name}" id="{name}" action="{evil}/"><input name="open"><input name="push"></form>',
        '<iframe name="{name}" src="{evil}/"></iframe>',
        '<a id="{name}" href="{evil}/"></a><a id="{name}" name="forEach" href="{evil}/"></a>',
    ],
    ids=["an image", "a form", "a frame", "links"],
)
def test_elements_named_like_globals_do_not_mislead_the_loader(web: Web, element: str) -> None:
    shop, evil = web.shop, web.mallory
    html = "".join(element.format(name=name, evil=evil.cross_site) for name in CLOBBERED if name != "currentScript")
    early = (
        "<script>Object.hasOwn(window, 'Chatsite') || (window.Chatsite = [['identify', 'a-secret-token']]);</script>"
    )
    page = web.browser().new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    alice = EmbeddedCustomer(page, shop.cross_site)
    alice.comes(shop.page(body=html, script=early + shop.script()))
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")
    alice.closes()
    assert errors == []
    assert alice.inside.url.startswith(f"{shop.chat}/chat/shop/")


@pytest.mark.parametrize("tag", ["img", "form", "iframe", "embed", "object"])
def test_a_loader_that_cannot_find_its_script_element_does_nothing(web: Web, tag: str) -> None:
    shop, evil = web.shop, web.mallory
    html = f'<{tag} name="currentScript" id="currentScript" src="{evil.cross_site}/x" data-website="rival"></{tag}>'
    page = web.browser().new_page()
    errors: list[str] = []
    requests = Requests(page, evil.cross_site)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(shop.cross_site + shop.page(body=html))
    page.wait_for_load_state("networkidle")
    assert errors == []
    assert page.locator("button.launcher").count() == 0
    assert {path for _, path, _ in requests.all} <= {"/x"}
