// <agent-answer> above an agent's <chat-composer> says with each answer what its writer has seen of the conversation. If a
// colleague has answered since, the server asks whether to send it too: the question is shown at the unsent answer. It also has
// the list of canned replies, and keeps the draft on the server for the agent's other devices. Above the composer of a note it has
// the list of colleagues.
// It stands before chat-composer.js in the bundle, so it is there before the composer sends what is still unsent.
const store = {
  get(key, otherwise) {
    try {
      return JSON.parse(sessionStorage.getItem(key)) ?? otherwise;
    } catch {
      return otherwise; // this browser has no storage
    }
  },
  set(key, value) {
    try {
      sessionStorage.setItem(key, JSON.stringify(value));
    } catch {
      // this browser has no storage
    }
  },
};

// What opens the list, with what was typed after it, before the caret.
const SIGNS = {
  "/": /(?:^|\n)\/(\S*)$/, // at the beginning of a line
  "@": /(?:^|[^A-Za-z0-9_.+/=@-])@([\p{L}\p{N}_.@+-]*)$/u, // as in models/mention.py
};
const DELAY = 200; // milliseconds after the last letter, before the server is asked for more
const FRESH = 60000; // milliseconds for which a fetched list holds
const SAVE_DELAY = 1000; // milliseconds after the last letter, before the draft is saved
const SAVE_RETRY = 10000; // milliseconds until the next attempt
const MAX_KEEPALIVE = 50000; // bytes; browsers refuse more than 64 kB
const TIMEOUT = 15000; // milliseconds until a request times out

// The list of canned replies or colleagues above the field: https://www.w3.org/WAI/ARIA/apg/patterns/combobox/
// A text area with several lines may not have the role combobox, nor aria-expanded: a live region says that the list is open.
class ChoiceList {
  constructor(host, composer, field) {
    Object.assign(this, { host, composer, field });
    this.box = host.querySelector(".reply-box");
    this.place = host.querySelector(".found");
    this.sign = host.dataset.sign;
    this.typed = SIGNS[this.sign];
    this.options = new Map(); // by id
    this.shown = [];
    field.addEventListener("input", () => this.update());
    field.addEventListener("blur", () => this.close());
    composer.addEventListener("keydown", (event) => this.onKey(event), true); // before the composer's, for which Enter sends
    composer.querySelector(".canned")?.addEventListener("click", () => this.start());
    this.box.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    this.place.addEventListener("click", ({ target }) => this.choose(target.closest("[role=option]")));
  }

  // The button: type the sign.
  start() {
    const { value, selectionStart } = this.field;
    const before = value.slice(0, selectionStart);
    this.field.focus();
    type(this.field, this.typed.test(before + this.sign) ? this.sign : (this.sign === "/" ? "\n" : " ") + this.sign);
  }

  async update() {
    const { value, selectionStart, selectionEnd } = this.field;
    const match = selectionStart === selectionEnd && this.typed.exec(value.slice(0, selectionStart));
    if (!match) this.dismissed = false;
    if (!match || this.dismissed || this.typing) return this.close();
    this.query = match[1].toLocaleLowerCase();
    this.wanted = true;
    if (!(Date.now() - this.at < FRESH)) await this.load();
    if (this.wanted) this.show();
    clearTimeout(this.timer);
    if (this.hasMore && this.query) this.timer = setTimeout(() => this.load(this.query).then(() => this.wanted && this.show()), DELAY);
  }

  async load(query = "") {
    const address = this.host.dataset.choices + (query && `?q=${encodeURIComponent(query)}`);
    try {
      const response = await fetch(address, { headers: { "HX-Request": "true" }, signal: AbortSignal.timeout?.(TIMEOUT) });
      if (!response.ok) throw new Error(response.status);
      const html = new DOMParser().parseFromString(await response.text(), "text/html");
      const found = [...html.querySelectorAll("[role=option]")];
      if (!query) this.options.clear();
      for (const option of found) this.options.set(option.id, document.adoptNode(option));
      if (!query) {
        this.hasMore = html.querySelector("[data-more]") !== null;
        this.list = html.querySelector("[role=listbox]");
        this.place.replaceChildren(...(this.list ? [document.adoptNode(this.list)] : []));
        this.at = Date.now();
      }
    } catch {
      this.wanted = false;
      this.close();
      this.host.say(this.composer.texts.offline);
    }
  }

  // First the names that begin with what was typed, then the others that have it, then the texts.
  rank({ dataset: { name, text, words } }) {
    const [inName, inText] = [name, words ?? text].map((each) => each.toLocaleLowerCase().indexOf(this.query));
    return inName === 0 ? 0 : inName > 0 ? 1 : inText >= 0 ? 2 : 3;
  }

  show() {
    const ranked = [...this.options.values()].map((option) => [this.rank(option), option]);
    this.shown = ranked.filter(([rank]) => rank < 3).sort(([a], [b]) => a - b).map(([, option]) => option);
    if (!this.shown.length && (this.query || this.options.size)) return this.close(); // it may be a path
    this.list?.replaceChildren(...this.shown);
    this.box.querySelector(".none").hidden = this.shown.length > 0;
    this.box.hidden = false;
    const { field } = this;
    if (this.list) {
      field.setAttribute("aria-autocomplete", "list");
      field.setAttribute("aria-haspopup", "listbox");
      field.setAttribute("aria-controls", this.list.id);
    }
    this.activate(this.shown[0]);
    this.host.announce(this.host.dataset.found.replace("{n}", this.shown.length.toLocaleString(document.documentElement.lang)));
  }

  close() {
    this.wanted = false;
    clearTimeout(this.timer);
    if (this.box.hidden) return;
    this.box.hidden = true;
    for (const name of ["aria-autocomplete", "aria-haspopup", "aria-controls", "aria-activedescendant"]) this.field.removeAttribute(name);
    this.host.announce("");
  }

  activate(option) {
    this.active?.setAttribute("aria-selected", "false");
    this.active = option;
    if (!option) return;
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.field.setAttribute("aria-activedescendant", option.id);
  }

  onKey(event) {
    if (this.box.hidden || event.target !== this.field) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const { shown } = this;
    if (step && shown.length) this.activate(shown.at((shown.indexOf(this.active) + step) % shown.length));
    else if (this.chooses(event) && shown.length) this.choose(this.active);
    else if (event.key === "Escape") (this.dismissed = true), this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Tab completes a name, as in other programs; above an answer it leaves the field.
  chooses({ key, shiftKey }) {
    return !shiftKey && (key === "Enter" || (key === "Tab" && this.sign === "@"));
  }

  choose(option) {
    if (!option) return;
    const { field } = this;
    const { text, notice = "" } = option.dataset;
    const end = field.selectionStart;
    const start = end - this.typed.exec(field.value.slice(0, end))[1].length - 1;
    this.close();
    this.typing = true; // the text may begin with a slash
    field.setSelectionRange(start, end);
    type(field, field.value[end] === " " ? text.trimEnd() : text);
    this.typing = false;
    this.host.say(notice);
  }
}

// What is typed is on the server a second later, and in this tab's storage at once (chat-composer.js). `saved` is the server's
// draft as this tab knows it: a text that differs from it is not saved yet. Of two devices, the one that has typed later wins.
class ServerDraft {
  constructor(host, composer, field, signal) {
    Object.assign(this, { host, composer, field });
    this.address = host.dataset.draft;
    this.key = composer.dataset.draft;
    this.typedAt = Date.now();
    this.begin();
    field.addEventListener("input", () => this.onInput());
    const on = (target, name, handle) => target.addEventListener(name, handle, { signal });
    on(document, "visibilitychange", () => (document.hidden ? this.save(true) : this.refresh()));
    on(window, "pagehide", () => this.save(true));
    on(window, "focus", () => this.refresh());
    on(window, "online", () => this.save());
  }

  get saved() {
    return this.memory ?? store.get(`saved ${this.key}`, { version: 0, text: "" });
  }

  set saved(saved) {
    this.memory = saved;
    store.set(`saved ${this.key}`, saved);
  }

  // The page has the server's draft. This tab may have typed more since it was saved; or another device may have.
  begin() {
    const { field, saved } = this;
    const typed = store.get(`draft ${this.key}`, "");
    const version = Number(this.host.dataset.version);
    const sent = Math.max(0, ...Object.values(this.host.written).map(({ draft }) => draft ?? 0));
    const text = version && version <= sent ? "" : field.value; // it is being sent
    const isUnsaved = typed !== saved.text && typed !== text;
    // Saved while the page was left, which this tab was not told of, and sent by another device since.
    const wasSent = !text && [...document.querySelectorAll("#messages .own .bubble")].some((bubble) => (bubble.dataset.text ?? bubble.textContent) === typed);
    const continues = isUnsaved && !wasSent && (saved.version === version || !text);
    this.saved = { version, text };
    field.value = continues ? typed : text;
    field.setSelectionRange(field.value.length, field.value.length); // browsers begin before a text that the page has
    store.set(`draft ${this.key}`, field.value); // before the composer reads it
    if (continues) this.schedule();
    else if (isUnsaved && !wasSent && typed.trim()) this.host.say(this.host.dataset.other, () => this.put(typed));
  }

  onInput() {
    this.typedAt = Date.now();
    this.schedule();
  }

  schedule(delay = SAVE_DELAY) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), delay);
  }

  // Show another text, as if it had been typed.
  put(text) {
    this.field.value = text;
    this.composer.onInput();
    this.onInput();
  }

  // The text has become an answer, and the server deletes the draft with it.
  onSent() {
    this.saved = { ...this.saved, text: "" };
  }

  // leaving: send it at once, even if an earlier text is on its way.
  async save(leaving = false) {
    clearTimeout(this.timer);
    const text = this.field.value;
    const { version } = this.saved;
    if (text === this.saved.text || this.composer.tooLong) return;
    if (this.saving && !leaving) return this.schedule();
    const body = new URLSearchParams({ content: text, version, age: Math.max(0, Date.now() - this.typedAt) });
    this.saving = true;
    const response = await this.request(this.address, { method: "POST", body, keepalive: body.toString().length < MAX_KEEPALIVE });
    this.saving = false;
    if (!response || response.status >= 500 || response.status === 429) return this.schedule(SAVE_RETRY);
    if (!response.headers.has("X-Draft")) return; // signed out, for example; this tab has the text
    const other = response.status === 204 ? "" : await response.text().catch(() => "");
    this.saved = { version: Number(response.headers.get("X-Draft")), text: response.status === 409 ? other : text };
    if (response.status === 409) this.show(other);
    else if (other) this.host.say(this.host.dataset.replaced, () => this.put(other));
    if (!version !== !this.saved.version) document.body.dispatchEvent(new CustomEvent("inbox"));
    if (this.field.value !== this.saved.text) this.schedule();
  }

  // Another device may have typed meanwhile, or sent the draft.
  async refresh() {
    const { text, version } = this.saved;
    if (this.saving || this.field.value !== text) return this.save();
    const response = await this.request(`${this.address}?version=${version}`);
    if (response?.status !== 200 || !response.headers.has("X-Draft")) return;
    const other = await response.text().catch(() => null);
    if (other === null || this.field.value !== text || this.saved.version !== version) return;
    this.saved = { version: Number(response.headers.get("X-Draft")), text: other };
    if (other !== text) this.show(other);
  }

  // Replace the text by that of another device.
  show(other) {
    const mine = this.field.value;
    this.field.value = other;
    this.composer.onInput();
    if (mine.trim() && other.trim()) this.host.say(this.host.dataset.other, () => this.put(mine));
  }

  async request(address, options = {}) {
    const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
    const headers = { "X-CSRFToken": token, "HX-Request": "true" };
    return fetch(address, { headers, signal: AbortSignal.timeout?.(TIMEOUT), ...options }).catch(() => null);
  }
}

// Insert a text at the caret. It can be undone with Ctrl+Z.
function type(field, text) {
  if (document.execCommand("insertText", false, text)) return;
  field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

class AgentAnswer extends HTMLElement {
  connectedCallback() {
    this.composer = this.parentElement.querySelector("chat-composer");
    this.form = this.composer.querySelector("form");
    this.field = this.composer.querySelector("textarea");
    this.choices = new ChoiceList(this, this.composer, this.field);
    this.key = this.composer.dataset.draft;
    this.disconnected = new AbortController();
    this.draft = new ServerDraft(this, this.composer, this.field, this.disconnected.signal);
    this.field.addEventListener("input", () => this.choices.typing || this.offers || this.say(""));
    this.querySelector(".said button").addEventListener("click", () => this.offers?.());
    this.form.addEventListener("formdata", (event) => this.addSeen(event));
    this.composer.addEventListener("refused", ({ detail }) => this.onRefused(detail));
    // An answer that waits for an earlier one was written when it was added, not when it is sent.
    this.watcher = new MutationObserver(() => this.remember());
    this.watcher.observe(document.querySelector(".messages.waiting"), { childList: true });
  }

  // Another conversation was opened.
  disconnectedCallback() {
    this.watcher.disconnect();
    this.disconnected.abort();
    this.draft.save(true);
  }

  // A sentence above the field until more is typed, "" hides it; or until the other draft is used or an answer is sent.
  say(text, useOther = null) {
    const line = this.querySelector(".said");
    this.offers = useOther && (() => (this.say(""), useOther(), this.field.focus()));
    line.querySelector("span").textContent = text;
    line.querySelector("button").hidden = !useOther;
    line.hidden = !text;
  }

  // For screen readers.
  announce(text) {
    this.querySelector("[role=status]").textContent = text;
  }

  // What was seen when each unsent answer was written, by its client_id. It survives a reload, as the answers do.
  get written() {
    return store.get(`written ${this.key}`, {});
  }

  set written(written) {
    store.set(`written ${this.key}`, written);
  }

  remember() {
    const before = this.written;
    const written = {};
    for (const { name, id } of this.composer.items ?? []) {
      if (id) continue;
      written[name] = before[name];
      if (written[name]) continue;
      written[name] = { seen: document.querySelector("message-list").last, draft: this.draft.saved.version };
      this.draft.onSent();
      this.say("");
    }
    this.written = written;
    return written;
  }

  // The composer is about to send its first unsent answer.
  addSeen({ formData }) {
    const item = this.composer.items?.find((item) => !item.id && !item.refused);
    if (item) for (const [name, value] of Object.entries(this.remember()[item.name])) formData.set(name, value);
  }

  // A colleague has answered: fetch what they wrote, and let the agent choose.
  onRefused({ item, response, change }) {
    const answered = Number(response.headers.get("X-Answered"));
    if (!answered) return;
    const draft = Number(response.headers.get("X-Draft")); // where the server keeps the text
    if (draft) {
      this.written = { ...this.written, [item.name]: { ...this.written[item.name], draft } };
      this.draft.saved = { ...this.draft.saved, version: draft };
    }
    const retry = item.row.querySelector("button");
    const text = retry.textContent;
    retry.textContent = this.dataset.anyway;
    change.textContent = this.dataset.edit;
    item.row.classList.add("asks");
    const send = () => {
      this.written = { ...this.written, [item.name]: { ...this.written[item.name], seen: answered } };
      item.row.classList.remove("asks");
      retry.textContent = text;
    };
    retry.addEventListener("click", send, { once: true, capture: true }); // before the composer's listener
    document.body.dispatchEvent(new CustomEvent("messages"));
  }
}

customElements.define("agent-answer", AgentAnswer);
