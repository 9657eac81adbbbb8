// <format-bar> above an agent's field puts marks of Markdown around what is selected, or takes them away, and shows the text as its
// readers will see it: the server renders it.
const isMac = /Mac|iP/.test(navigator.platform);
const KEYS = { bold: "B", italics: "I", list: "Shift+8", code: "E", link: "Shift+K" };
const MARKS = { bold: "**", italics: "_", code: "`" };
const ITEM = /^([ \t]*)(?:[-*+]|(\d{1,8})([.)]))[ \t]+/;
const BULLET = /^[ \t]*[-*+][ \t]/;
const ADDRESS = /^(?:https?:\/\/|www\.|mailto:)\S+$/i;
// Letters of scripts with spaces between words: marks inside such a word would be shown as they are.
const WORD = /(?![\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}])[\p{L}\p{M}\p{N}_]/u;
const DELAY = 300; // milliseconds after the last letter
const TIMEOUT = 15000; // milliseconds until a request times out

class FormatBar extends HTMLElement {
  connectedCallback() {
    this.field = this.closest("form").querySelector("textarea");
    this.box = this.querySelector("#preview");
    this.toggle = this.querySelector(".shows");
    this.buttons = [...this.querySelectorAll("[role=toolbar] button")];
    this.box.hidden = true; // shown by the server for browsers without script
    for (const button of this.buttons) {
      button.tabIndex = button === this.buttons[0] ? 0 : -1;
      const keys = KEYS[button.dataset.tool];
      if (!keys) continue;
      button.title = `${button.getAttribute("aria-label")} (${isMac ? `⌘${keys.replace("Shift+", "⇧")}` : `Ctrl+${keys}`})`;
      button.setAttribute("aria-keyshortcuts", `${isMac ? "Meta" : "Control"}+${keys}`);
    }
    this.addEventListener("pointerdown", (event) => event.target.closest("button") && event.preventDefault()); // the field keeps the focus
    this.addEventListener("click", ({ target }) => this.onClick(target.closest("button")));
    this.addEventListener("keydown", (event) => this.onArrow(event));
    this.field.addEventListener("keydown", (event) => this.onKey(event));
    this.field.addEventListener("input", () => this.schedule(DELAY));
    this.closest("form").addEventListener("submit", () => this.schedule(0)); // the field is empty then
  }

  // https://www.w3.org/WAI/ARIA/apg/patterns/toolbar/
  onArrow(event) {
    const at = this.buttons.indexOf(event.target);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key] * (document.dir === "rtl" ? -1 : 1);
    const next = { Home: 0, End: this.buttons.length - 1 }[event.key] ?? at + step;
    if (at < 0 || Number.isNaN(next)) return;
    event.preventDefault();
    const button = this.buttons.at(next % this.buttons.length);
    for (const each of this.buttons) each.tabIndex = each === button ? 0 : -1;
    button.focus();
  }

  onClick(button) {
    if (!button) return;
    if (button !== this.toggle) return this.apply(button.dataset.tool);
    this.box.hidden = true;
    const shows = this.toggle.getAttribute("aria-expanded") === "false";
    this.toggle.setAttribute("aria-expanded", shows);
    if (shows) this.show();
  }

  onKey(event) {
    const { key, code, shiftKey, altKey } = event;
    const command = isMac ? event.metaKey : event.ctrlKey;
    if (key === "Enter") return shiftKey && !command && !altKey ? this.continueList(event) : this.schedule(0);
    if (!command || altKey) return;
    const pressed = shiftKey ? `Shift+${code === "Digit8" ? 8 : key.toUpperCase()}` : key.toUpperCase();
    const tool = Object.keys(KEYS).find((name) => KEYS[name] === pressed);
    if (!tool) return;
    event.preventDefault();
    event.stopPropagation();
    this.apply(tool);
  }

  apply(tool) {
    this.field.focus();
    if (tool === "list") return this.list();
    if (tool === "link") return this.link();
    if (tool === "code" && this.selected.includes("\n")) return this.block();
    this.mark(MARKS[tool], tool !== "code");
  }

  get selected() {
    return this.field.value.slice(this.field.selectionStart, this.field.selectionEnd);
  }

  // Replace a part of the text and select a part of it. It can be undone with Ctrl+Z.
  replace(start, end, text, from, to = from) {
    const { field } = this;
    field.setSelectionRange(start, end);
    if (!document.execCommand(text ? "insertText" : "delete", false, text)) {
      field.setRangeText(text, start, end, "end");
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
    field.setSelectionRange(from, to);
  }

  // Put marks around the selected words, or the word with the caret; without any, between the marks is where to type.
  mark(mark, wholeWords) {
    const { value, selectionStart, selectionEnd } = this.field;
    const size = mark.length;
    let [start, end] = [selectionStart, selectionEnd];
    while (start < end && /\s/.test(value[start])) start++;
    while (end > start && /\s/.test(value[end - 1])) end--;
    const isMarked = (from, to) => value.slice(from - size, from) === mark && value.slice(to, to + size) === mark;
    if (!isMarked(start, end) && wholeWords) {
      const isWord = (at) => at >= 0 && WORD.test(value[at] ?? "") && !value.startsWith("_", at);
      while (isWord(start - 1) && (isWord(start) || start === end)) start--;
      while (isWord(end) && (isWord(end - 1) || start === end)) end++;
    }
    const text = value.slice(start, end);
    const inner = text.slice(size, -size);
    if (isMarked(start, end)) return this.replace(start - size, end + size, text, start - size, end - size);
    if (inner && text === mark + inner + mark) return this.replace(start, end, inner, start, start + inner.length);
    const marked = text.split("\n").map((line) => (line.trim() || !text ? mark + line + mark : line)).join("\n");
    this.replace(start, end, marked, start + size, start + marked.length - size);
  }

  // Put a quote in lines of its own at the caret, and go on below it.
  quote(text) {
    const { value, selectionStart: start } = this.field;
    const before = value.slice(0, start);
    const gap = !before || before.endsWith("\n\n") ? "" : before.endsWith("\n") ? "\n" : "\n\n";
    this.field.focus();
    this.replace(start, start, gap + text, start + gap.length + text.length);
  }

  // Several lines of code.
  block() {
    const { value, selectionStart: start, selectionEnd: end } = this.field;
    const before = !start || value[start - 1] === "\n" ? "```\n" : "\n```\n";
    const after = end === value.length || value[end] === "\n" ? "\n```" : "\n```\n";
    const from = start + before.length;
    this.replace(start, end, before + value.slice(start, end) + after, from, from + end - start);
  }

  // Make the selected lines the items of a list, or no longer.
  list() {
    const { value, selectionStart, selectionEnd } = this.field;
    const start = value.lastIndexOf("\n", selectionStart - 1) + 1;
    const end = (value + "\n").indexOf("\n", selectionEnd);
    const lines = value.slice(start, end).split("\n");
    const isList = lines.every((line) => !line.trim() || BULLET.test(line)) && value.slice(start, end).trim();
    const isItem = (line) => BULLET.test(line) || (!line.trim() && lines.length > 1);
    const changed = lines.map((line) => (isList ? line.replace(BULLET, "") : isItem(line) ? line : `- ${line}`)).join("\n");
    const last = start + changed.length;
    this.replace(start, end, changed, lines.length > 1 ? start : last, last);
  }

  link() {
    const { selectionStart: start, selectionEnd: end } = this.field;
    const text = this.selected.trim();
    if (ADDRESS.test(text)) return this.replace(start, end, `[](${text})`, start + 1);
    const address = start + text.length + 3; // after [text](
    if (text) return this.replace(start, end, `[${text}](https://)`, address, address + 8);
    this.replace(start, end, "[](https://)", start + 1);
  }

  // Shift+Enter in a list begins the next item; in an empty item it ends the list.
  continueList(event) {
    const { value, selectionStart: caret, selectionEnd } = this.field;
    const start = value.lastIndexOf("\n", caret - 1) + 1;
    const [found, indent, number, after] = ITEM.exec(value.slice(start, caret)) ?? [];
    if (!found || caret !== selectionEnd) return;
    event.preventDefault();
    const isEmpty = start + found.length === caret && /^[ \t]*(\n|$)/.test(value.slice(caret));
    if (isEmpty) return this.replace(start, caret, "", start);
    const next = `\n${indent}${number ? Number(number) + 1 + after : found.trim()} `;
    this.replace(caret, caret, next, caret + next.length);
  }

  schedule(delay) {
    clearTimeout(this.timer);
    if (this.toggle.getAttribute("aria-expanded") === "true") this.timer = setTimeout(() => this.show(), delay);
  }

  async show() {
    const content = this.field.value;
    const asked = (this.asked = {});
    if (!content.trim()) return (this.box.hidden = true);
    const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
    const options = { method: "POST", headers: { "X-CSRFToken": token, "HX-Request": "true" }, body: new URLSearchParams({ content }) };
    const response = await fetch(this.dataset.preview, { ...options, signal: AbortSignal.timeout?.(TIMEOUT) }).catch(() => null);
    const text = await response?.text().catch(() => null);
    if (this.asked !== asked || this.toggle.getAttribute("aria-expanded") === "false") return; // more was typed since
    this.box.hidden = false;
    if (response?.ok && text) this.box.innerHTML = text;
    else this.box.textContent = response?.headers.get("Content-Type")?.startsWith("text/plain") ? text : this.closest("form").dataset.offline;
  }
}

customElements.define("format-bar", FormatBar);
