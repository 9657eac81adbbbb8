"""Scripts and style sheets as they are sent."""

import re

import pytest

from conversations.screen.bundles import FILES, read, styles

NAMES = sorted({name for bundle, names in FILES.items() if bundle.endswith(".css") for name in names})


@pytest.mark.parametrize("name", NAMES)
def test_a_pseudo_class_of_a_descendant_is_not_joined_to_the_element_before_it(name: str) -> None:
    """rcssmin makes `.a:is(b)` of some `.a :is(b)`, which is another rule: write `.a b` instead."""
    descendants = r"[\w\])] :(?:is|not|has|where)\("
    text = re.sub(r"/\*.*?\*/", "", read(f"css/{name}.css"), flags=re.DOTALL)
    assert re.findall(descendants, styles((name,))) == re.findall(descendants, text)
