"""Formatted text: the Markdown that agents write, as HTML.

It has bold, italics, code, code blocks, lists, quotes and links, as people know them from chat programs: what is not
clearly markup is shown as it was typed, with all of its line breaks. The parser is markdown-it-py with few of its
rules, most of them stricter here than in CommonMark. nh3 cleans what it makes, so that no mistake here lets HTML in.
"""

import logging
import re
from collections.abc import Callable
from functools import cache, lru_cache
from html import escape, unescape
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import category

from django.utils.safestring import SafeString, mark_safe

from conversations.models.links import MAX_LINKS, UNSPACED, find_addresses, link, linkify
from conversations.models.visible_text import is_blank

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

MAX_MARKS = 1_000
"""The most characters of markup in one message. One with more is shown as it was typed."""

MAX_DEPTH = 6
"""How deep quotes (1 each) and lists (2 each) may stand inside each other; further ones are text."""

LONG = 2_000
"""Characters; fewer of the longer messages are kept as HTML, and excerpts show nothing of what is further on."""

MARK = re.compile(r"[*_`\\]|\[(?=[^\[])|^[ \t>]*(?:[-+#>]|[0-9]{1,9}[.)])(?=[ \t>#`]|$)", re.MULTILINE)
"""What may be markup."""

ITEM = re.compile(r"(?:([-+*])|[0-9]{1,9}([.)]))(?:[ \t]|$)")
QUOTE = re.compile(r">+(?:[ \t]|$)")
FENCE = re.compile(r"```[ \t]*[\w+#.-]{0,20}[ \t]*$")  # with the name of a language, which is not shown
FENCE_END = re.compile(r"^[ \t>]*```+[ \t]*$", re.MULTILINE)
LINK = re.compile(
    r"\[((?:[^\[\]\\\n]|\\[^\n]){1,500}+)\]"
    r"\(\s?<?((?ai:https?://|mailto:|www\.)(?:[^\s<>()]|\([^\s<>()]*+\)){1,2000}+)>?\s?\)"
)
STOP = re.compile(r"[*_`\\]|\[(?=[^\[])")
UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")

OPENING, CLOSING = "\"'", "\"'.,;:!?…%"
"""Characters besides brackets and white space before and after marked words."""

TAGS = {"a", "blockquote", "code", "em", "li", "ol", "pre", "strong", "ul"}
ATTRIBUTES = {"a": {"href", "dir", "target"}, "ol": {"start"}, "li": {"value"}}
LISTED = re.compile("<li[^>]*>")
BLOCK = re.compile("</?(?:blockquote|pre|ol|ul)[^>]*>")
TAG = re.compile("<[^>]*>")
HAS_BLOCKS = re.compile("<(?:blockquote|code|ol|pre|ul)")

logger = logging.getLogger(__name__)


class Formatted(NamedTuple):
    """A text as HTML."""

    html: SafeString
    is_typed: bool  # whether it is shown as it was typed
    has_blocks: bool  # whether it needs static/css/formatted.css


def typed(text: str, between: Callable[[str], str] = escape) -> Formatted:
    """Text as it was typed, with links; `between` makes the HTML of the text between them."""
    return Formatted(linkify(text, between), is_typed=True, has_blocks=False)


def render(text: str) -> Formatted:
    """Markdown as HTML. It takes up to 40 ms of CPU time, mostly much less, and none the second time."""
    if not MARK.search(text):
        return typed(text)
    return _render_short(text) if len(text) < LONG else _render_long(text)


def render_once(text: str) -> Formatted:
    """The same for a text that is still being written: it is not kept."""
    return _render(text) if MARK.search(text) else typed(text)


def plain(text: str) -> str:
    """The beginning of Markdown, LONG at most, without its marks: for where a part of a message is shown on a line."""
    html, is_typed, _has_blocks = render(text := text[:LONG])
    return text if is_typed else unescape(TAG.sub("", BLOCK.sub("\n", LISTED.sub("\n• ", html))))


def _render(text: str) -> Formatted:
    if sum(1 for _ in MARK.finditer(text)) > MAX_MARKS:
        return typed(text)
    try:
        parse, clean = _tools()
        html = clean(_html(parse(text)))
    except Exception:
        logger.exception("A formatted text is shown as it was typed.")
        return typed(text)
    return Formatted(
        mark_safe(html),  # noqa: S308 (cleaned)
        is_typed=False,
        has_blocks=HAS_BLOCKS.search(html) is not None,
    )


_render_short = lru_cache(maxsize=1000)(_render)
_render_long = lru_cache(maxsize=20)(_render)


@cache
def _tools() -> tuple[Callable[[str], list["Token"]], Callable[[str], str]]:
    """The parser and the cleaner, made with the first text that needs them: importing them takes time and memory."""
    import nh3
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import blockquote, fence, list_block
    from markdown_it.rules_inline import backtick

    def code(state: "StateInline", silent: bool) -> bool:
        start = state.pos
        found = backtick(state, silent)
        if not silent and state.tokens and state.tokens[-1].type == "code_inline" and not state.pending:
            token = state.tokens[-1]
            size = len(token.markup)
            if "\n" in (typed := state.src[start + size : state.pos - size]):
                token.content = typed.strip("\n")  # markdown-it makes spaces of line breaks
        return found

    parser = MarkdownIt("zero")
    blocks, inline = parser.block.ruler, parser.inline.ruler
    blocks.at("fence", _guarded(fence, _is_fence), {"alt": ["paragraph", "blockquote", "list"]})
    blocks.at("blockquote", _guarded(blockquote, _is_quote), {"alt": ["paragraph", "list"]})
    blocks.at("list", _guarded(list_block, _is_list), {"alt": ["paragraph", "blockquote"]})
    blocks.at("paragraph", _paragraph)
    blocks.before("fence", "no_lazy_lines", lambda _state, _start, _end, silent: silent, {"alt": ["blockquote"]})
    inline.at("text", _text)
    inline.at("escape", _escape)
    inline.at("backticks", code)
    inline.at("emphasis", _emphasis)
    inline.at("link", _link)
    parser.enable(["fence", "blockquote", "list", "heading", "escape", "backticks", "emphasis", "link"])
    cleaner = nh3.Cleaner(
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow ugc",
    )
    return parser.parse, cleaner.clean


# Blocks. A rule returns whether it has made tokens of some lines from `start` on or, if `silent`, whether it would.

Guard = Callable[["StateBlock", int, int], bool]


def _guarded(rule: Any, guard: Guard) -> Any:
    def guarded(state: "StateBlock", start: int, end: int, silent: bool) -> bool:
        return guard(state, start, end) and rule(state, start, end, silent)

    return guarded


def _matches(pattern: re.Pattern[str], state: "StateBlock", line: int) -> re.Match[str] | None:
    return pattern.match(state.src, state.bMarks[line] + state.tShift[line], state.eMarks[line])


def _is_fence(state: "StateBlock", start: int, _end: int) -> bool:
    """Whether the line begins a code block that is closed."""
    if not _matches(FENCE, state, start):
        return False
    if "last_fence" not in state.env:
        state.env["last_fence"] = max((found.end() for found in FENCE_END.finditer(state.src)), default=-1)
    return bool(state.eMarks[start] < state.env["last_fence"])


def _is_quote(state: "StateBlock", start: int, _end: int) -> bool:
    """Whether the line is quoted: not >:( and not >100."""
    return state.level < MAX_DEPTH and _matches(QUOTE, state, start) is not None


def _is_list(state: "StateBlock", start: int, end: int) -> bool:
    """Whether the line begins a list of several items, or stands in one: not 1. May, and not a signature - Bob."""
    found = _matches(ITEM, state, start)
    if not found or state.level >= MAX_DEPTH:
        return False
    if state.listIndent >= 0:
        return True
    inside = state.sCount[start] + len(found[0].rstrip()) + 1
    for line in range(start + 1, end):
        if state.isEmpty(line):
            continue
        item = _matches(ITEM, state, line)
        is_inside = state.sCount[line] >= inside
        if item and state.sCount[line] >= state.blkIndent and (is_inside or item.groups() == found.groups()):
            return True
        if not is_inside:
            return False
    return False


def _paragraph(state: "StateBlock", start: int, _end: int, _silent: bool) -> bool:
    """Lines up to an empty one, or to one that is something else or stands outside."""
    rules = state.md.block.ruler.getRules("paragraph")
    before, state.parentType = state.parentType, "paragraph"
    line = start + 1
    while line < state.lineMax and not state.isEmpty(line) and state.sCount[line] >= state.blkIndent:
        if any(rule(state, line, state.lineMax, True) for rule in rules):
            break
        line += 1
    state.parentType, state.line = before, line
    token = state.push("inline", "", 0)
    token.content, token.map, token.children = state.getLines(start, line, state.blkIndent, False), [start, line], []
    return True


# Words. A rule returns whether it has made tokens of what stands at `state.pos`, and moves that.


def _text(state: "StateInline", _silent: bool) -> bool:
    """Text up to the next character that may be markup, and addresses as links."""
    src, start = state.src, state.pos
    if state.env.get("src") is not src:
        state.env["src"] = src
        state.env["addresses"] = list(islice(find_addresses(src), MAX_LINKS))[::-1]
    addresses = state.env["addresses"]
    while addresses and addresses[-1][0] < start:
        addresses.pop()
    found = STOP.search(src, start, state.posMax)
    end = found.start() if found else state.posMax
    if addresses and not state.linkLevel and addresses[-1][0] <= end:
        begins, until, href = addresses[-1]
        if begins == start:
            return _address(state, until, href)
        end = begins
    state.append_pending(src[start:end])
    state.pos = end
    return end > start


def _address(state: "StateInline", until: int, href: str) -> bool:
    mark = state.src[state.pos - 1 : state.pos]
    while mark in {"_", "*"} and href.endswith(mark):  # they belong to the words around it: _https://example.com_
        until, href = until - 1, href[:-1]
    state.env["addresses"].pop()
    if not _takes_link(state):
        state.append_pending(state.src[state.pos : until])
    else:
        token = state.push("link_open", "a", 1)
        token.attrs = {"href": href, "dir": "ltr"}
        token = state.push("text", "", 0)
        token.content = state.src[state.pos : until]
        state.push("link_close", "a", -1)
    state.pos = until
    return True


def _takes_link(state: "StateInline") -> bool:
    state.env["links"] = state.env.get("links", 0) + 1
    return bool(state.env["links"] <= MAX_LINKS)


def _escape(state: "StateInline", _silent: bool) -> bool:
    r"""A backslash before markup makes it text. It is hidden at the beginning of a word: in \*, not in C:\temp\*."""
    src, start = state.src, state.pos
    if src[start] != "\\":
        return False
    following = src[start + 1 : start + 2]
    begins_line = start == 0 or src[start - 1] == "\n"
    is_markup = following != "" and (following in "*_`[" or (begins_line and following in "#>-+"))
    is_hidden = is_markup and (begins_line or src[start - 1].isspace() or src[start - 1] in "([*_")
    state.append_pending(("" if is_hidden else "\\") + (following if is_markup else ""))
    state.pos += 2 if is_markup else 1
    return True


def _emphasis(state: "StateInline", _silent: bool) -> bool:
    """Marks of bold and italics around words: not in snake_case, 2*3*4, 2 * 3, *.txt or ^_^."""
    from markdown_it.rules_inline.state_inline import Delimiter

    src, start, marker = state.src, state.pos, state.src[state.pos]
    if marker not in "*_":
        return False
    end = start + 1
    while end < state.posMax and src[end] == marker:
        end += 1
    size = end - start
    before, after = src[start - 1 : start] or " ", src[end : end + 1] or " "
    opens = _may_precede(before, marker) and not after.isspace() and not _ends(after)
    closes = _may_follow(after, marker) and not before.isspace() and not _begins(before)
    if size > (3 if marker == "*" else 1) or not (opens or closes):
        state.append_pending(src[start:end])
    else:
        for _ in range(size):
            token = state.push("text", "", 0)
            token.content = marker
            state.delimiters.append(
                Delimiter(ord(marker), length=size, token=len(state.tokens) - 1, end=-1, open=opens, close=closes)
            )
    state.pos = end
    return True


def _may_precede(character: str, marker: str) -> bool:
    return character.isspace() or character in OPENING or _begins(character) or _is_boundary(character, marker)


def _may_follow(character: str, marker: str) -> bool:
    return character.isspace() or character in CLOSING or _ends(character) or _is_boundary(character, marker)


def _is_boundary(character: str, marker: str) -> bool:
    """Whether marks may stand on both sides of it. Single underscores are parts of names and faces: ^_^, <_<, -_-."""
    if marker == "*":
        return not _in_word(character)
    return character in "*_" or (character > "\x7f" and category(character)[0] == "P")


def _begins(character: str) -> bool:
    return category(character) in {"Ps", "Pi"}


def _ends(character: str) -> bool:
    return category(character) in {"Pe", "Pf"} or character in ".,;:!?"


def _in_word(character: str) -> bool:
    """Whether it is a letter or digit of a script with spaces between words."""
    return category(character)[0] in "LMN" and not UNSPACED_CHARACTER.match(character)


def _link(state: "StateInline", _silent: bool) -> bool:
    """A link with a text: [our hours](https://example.com/hours)."""
    found = LINK.match(state.src, state.pos, state.posMax)
    if not found or state.linkLevel or is_blank(found[1]) or not _takes_link(state):
        return False
    href, end = found[2], state.posMax
    token = state.push("link_open", "a", 1)
    token.attrs = {"href": f"http://{href}" if href[:4].lower() == "www." else href, "dir": "auto"}
    state.pos, state.posMax = found.start(1), found.end(1)
    state.linkLevel += 1
    state.md.inline.tokenize(state)
    state.linkLevel -= 1
    state.push("link_close", "a", -1)
    state.pos, state.posMax = found.end(), end
    return True


# HTML. Bubbles keep white space, so paragraphs need no element: between them stand the line breaks that were typed.


def _html(tokens: list["Token"]) -> str:
    html: list[str] = []
    ends: list[int | None] = [None]  # of the lines of the text before, in each element that is open; None after a block
    numbers: list[int] = []  # the next one in each list that is open
    for token in tokens:
        lines = token.map or [0, 0]
        if token.type == "inline":
            if ends[-1] is not None:
                html.append("\n" * (lines[0] - ends[-1] + 1))
            html.append(_inline_html(token.children or []))
            ends[-1] = lines[1]
        elif token.type == "heading_open":
            if ends[-1] is not None:
                html.append("\n" * (lines[0] - ends[-1] + 1))
            ends[-1] = None
            html.append("<strong>")
        elif token.type == "heading_close":
            html.append("</strong>")
        elif token.type == "fence":
            html.append(f"<pre><code>{escape(token.content.removesuffix(chr(10)))}</code></pre>")
            ends[-1] = None
        elif token.nesting == 1:
            html.append(_opening_tag(token, numbers))
            ends.append(None)
        else:
            html.append(f"</{token.tag}>")
            ends.pop()
            ends[-1] = None
            if token.type == "ordered_list_close":
                numbers.pop()
    return "".join(html)


def _opening_tag(token: "Token", numbers: list[int]) -> str:
    """Numbers stay as they were typed: 3. May and 8. May are not the third and the fourth."""
    if token.type == "ordered_list_open":
        numbers.append(int(token.attrs.get("start", 1)))
        return f'<ol start="{numbers[-1]}">' if numbers[-1] != 1 else "<ol>"
    if token.type == "list_item_open" and token.info:
        number, expected = int(token.info), numbers[-1]
        numbers[-1] = number + 1
        return f'<li value="{number}">' if number != expected else "<li>"
    return f"<{token.tag}>"


def _inline_html(tokens: list["Token"]) -> str:
    html: list[str] = []
    for token in tokens:
        if token.type == "code_inline":
            html.append(f"<code>{escape(token.content)}</code>")
        elif token.type == "link_open":
            opening, _closing = link(str(token.attrs["href"]), "\0", str(token.attrs["dir"])).split("\0")
            html.append(opening)
        else:
            html.append(escape(token.content) if token.nesting == 0 else f"<{'/' * (token.nesting < 0)}{token.tag}>")
    return "".join(html)
