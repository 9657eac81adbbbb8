"""Elements that users of a website write into its pages, named like globals, do not mislead the loader.

See https://html.spec.whatwg.org/multipage/nav-history-apis.html#named-access-on-the-window-object (DOM clobbering).
"""

import pytest

from tests.browser.hosts import Guest, Requests, Street

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
def test_elements_with_the_names_of_globals_mislead_no_loader(street: Street, element: str) -> None:
    shop, evil = street.shop, street.mallory
    html = "".join(element.format(name=name, evil=evil.far) for name in CLOBBERED if name != "currentScript")
    early = (
        "<script>Object.hasOwn(window, 'Chatsite') || (window.Chatsite = [['identify', 'a-secret-token']]);</script>"
    )
    page = street.browser().new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    alice = Guest(page, shop.far)
    alice.comes(shop.page(body=html, script=early + shop.script()))
    alice.opens()
    alice.says("Hello")
    alice.shows("Hello")
    alice.closes()
    assert errors == []
    assert alice.inside.url.startswith(f"{shop.chat}/chat/shop/")


@pytest.mark.parametrize("tag", ["img", "form", "iframe", "embed", "object"])
def test_a_loader_that_cannot_find_its_script_element_does_nothing(street: Street, tag: str) -> None:
    shop, evil = street.shop, street.mallory
    html = f'<{tag} name="currentScript" id="currentScript" src="{evil.far}/x" data-website="rival"></{tag}>'
    page = street.browser().new_page()
    errors: list[str] = []
    requests = Requests(page, evil.far)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(shop.far + shop.page(body=html))
    page.wait_for_load_state("networkidle")
    assert errors == []
    assert page.locator("button.launcher").count() == 0
    assert {path for _, path, _ in requests.all} <= {"/x"}
