// <inbox-list> updates the list of conversations and keeps its scroll position and focus.
const RETRY = 5000; // milliseconds
const TIMEOUT = 15000; // milliseconds, as in htmx-config.js

const MOST_ROWS = 500; // as MAX_ROWS in agent/inbox.py

const HOLD = 5000; // milliseconds after which a press counts as released, in case this page gets no event for it

// Whether the agent caused a request; otherwise the page updates itself.
const isUserAction = (element) => !element.matches("[hx-trigger$='from:body']");

const errorText = (xhr) => xhr.getResponseHeader("Content-Type")?.startsWith("text/plain") && xhr.responseText;

class InboxList extends HTMLElement {
  connectedCallback() {
    document.body.addEventListener("htmx:configRequest", ({ detail }) => this.addContext(detail));
    this.addEventListener("htmx:beforeRequest", (event) => this.limitRows(event));
    this.addEventListener("htmx:beforeSwap", ({ detail }) => {
      if (detail.target !== this) return;
      if (detail.serverResponse === this.shown) detail.shouldSwap = false;
      if (detail.shouldSwap) {
        this.isOther = detail.requestConfig.elt !== this; // another list, or what was found: it begins at its top
        this.anchor = this.isOther ? null : this.topRow();
        this.rememberFocus();
      }
      this.shown = detail.serverResponse;
    });
    // The response may mark another row as current, if the agent has opened another conversation meanwhile.
    this.addEventListener("htmx:afterSwap", () => (this.restoreScroll(), this.updateTitle(), this.restoreFocus(), this.markCurrent()));
    this.addEventListener("keydown", (event) => this.moveFocus(event));
    this.addEventListener("click", ({ target }) => this.prepare(target.closest(".row:not([hx-get])")), true);
    this.classList.add("early");
    requestAnimationFrame(() => this.showCurrent()); // not now: scripts go on to change the page, and it would be laid out twice
    // After the times, which are before this file in the bundle.
    afterPaint().then(() => (this.classList.remove("early"), this.showCurrent()));

    addEventListener("pointerdown", () => (this.pressed = Date.now()), true);
    for (const released of ["pointerup", "pointercancel"]) addEventListener(released, () => this.release(), true);
    document.body.addEventListener("htmx:beforeSwap", (event) => this.holdBack(event), true);
    const on = (name, handle) => document.body.addEventListener(name, ({ detail }) => handle(detail));
    on("ring", (ring) => this.onRing(ring));
    on("left", ({ path, select }) => htmx.ajax("GET", path, { target: "#conversation", swap: "innerHTML", push: "true", select })); // after closing
    on("htmx:afterSettle", ({ target }) => this.afterSettle(target));
    on("htmx:historyRestore", () => (this.markCurrent(), document.body.dispatchEvent(new CustomEvent("inbox"))));
    on("htmx:historyCacheMiss", ({ xhr }) => this.navigate(xhr));
    on("htmx:historyCacheMissLoadError", () => this.showLoadError());
    on("htmx:beforeRequest", ({ target }) => target.id === "conversation" && this.navigate(null));
    on("htmx:afterRequest", ({ elt, successful }) => successful && isUserAction(elt) && this.showError(""));
    on("htmx:responseError", ({ elt, xhr }) => isUserAction(elt) && this.showError(errorText(xhr) || this.dataset.broken));
    for (const failure of ["htmx:sendError", "htmx:timeout"]) {
      on(failure, ({ elt }) => isUserAction(elt) && this.showError(this.dataset.offline));
    }
    if (!("popover" in HTMLElement.prototype)) document.addEventListener("click", (event) => this.toggleDetails(event));
    document.addEventListener("connected", () => (this.forgetOffline(), this.retryNavigation()));
    addEventListener("online", () => this.retryNavigation());
    addEventListener("dragover", (event) => this.refuseDrop(event));
    document.addEventListener("pointerdown", ({ target }) => this.sheet?.contains(target) === false && (this.sheet.open = false));
    document.addEventListener("keydown", (event) => this.onKey(event));
    const bell = document.querySelector("door-bell");
    bell.addEventListener("out", () => bell.append(" ", this.link(bell)));
  }

  showCurrent() {
    this.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  // htmx learns of a row when it is clicked: of all 50 when they come, that takes it 10 ms.
  prepare(row) {
    if (!row) return;
    row.setAttribute("hx-get", row.getAttribute("href"));
    htmx.process(row);
  }

  // Which list is asked for, and what is shown. The URL says which list it is, also after going back.
  addContext(detail) {
    const { elt, parameters } = detail;
    if (detail.target !== this) return;
    if (elt === this) {
      detail.path = detail.path.replace(/[?].*|$/, location.search);
      parameters.rows = this.querySelectorAll(".row").length;
      parameters.known = this.querySelector("[data-digest]")?.dataset.digest;
    }
    if (this.chosen) parameters.chosen = this.chosen;
    parameters.shown = document.getElementById("lists").dataset.query;
  }

  // The list updates itself with all its rows, so it does not grow for ever: from then on, "Show more" is a link.
  limitRows(event) {
    const { elt } = event.detail;
    if (!elt.matches(".more a") || this.querySelectorAll(".row").length < MOST_ROWS) return;
    event.preventDefault();
    elt.addEventListener("click", () => location.assign(elt.href));
  }

  // Nothing is replaced while the agent presses a button or a row: a browser fires a click only if the same element gets
  // pointerdown and pointerup.
  holdBack(event) {
    const { elt } = event.detail;
    if (isUserAction(elt) || elt.id === "messages" || !(Date.now() - this.pressed < HOLD)) return;
    event.detail.shouldSwap = false;
    event.stopPropagation();
    this.held = true;
    setTimeout(() => this.fetchHeld(), HOLD);
  }

  // The click event follows at once. After it, fetch again what was held back.
  release() {
    this.pressed = 0;
    setTimeout(() => this.fetchHeld());
  }

  fetchHeld() {
    if (!this.held) return;
    this.held = false;
    ["inbox", "state"].forEach((name) => document.body.dispatchEvent(new CustomEvent(name)));
  }

  // A ring names its conversation, whose messages are fetched only if it is open. `beside`: nothing in the list changes, except
  // for the agents whom a note mentions.
  onRing({ conversation, beside, mentions = [] }) {
    if (mentions.includes(Number(this.dataset.agent))) beside = false;
    const isOpen = conversation === undefined || String(conversation) === this.chosen;
    if (isOpen) document.body.dispatchEvent(new CustomEvent("messages"));
    if (isOpen || !beside) document.body.dispatchEvent(new CustomEvent("inbox"));
  }

  // Without popovers (before Chrome 114, Safari 17 and Firefox 125), inbox.css shows the details below the conversation.
  toggleDetails({ target }) {
    const button = target.closest("[popovertarget]");
    if (button) document.getElementById(button.getAttribute("popovertarget")).classList.toggle("shown");
  }

  // The browser would open a file that is dropped outside a composer.
  refuseDrop(event) {
    if (event.defaultPrevented || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "none";
  }

  afterSettle(target) {
    if (target?.id === "conversation") this.markCurrent();
    if (!["conversation", "state"].includes(target?.id) || document.activeElement !== document.body) return;
    target.querySelector("h2")?.focus({ preventScroll: true });
  }

  // The last navigation wins: abort the requests of earlier ones.
  navigate(xhr) {
    this.navigation?.abort();
    this.navigation = xhr;
    if (!xhr) return;
    xhr.timeout = TIMEOUT;
    xhr.onerror = xhr.ontimeout = () => this.showLoadError();
    const pane = document.getElementById("conversation");
    pane.dispatchEvent(new CustomEvent("htmx:abort", { bubbles: true, detail: {} }));
  }

  // Going back failed: replace the conversation, which does not belong to the new URL.
  showLoadError() {
    const message = document.createElement("p");
    message.append(`${this.dataset.missing} `, this.link(this));
    const box = Object.assign(document.createElement("div"), { className: "nothing load-error" });
    box.append(message);
    document.getElementById("conversation").replaceChildren(box);
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => this.retryNavigation(), RETRY);
  }

  // A link that loads the current page again, with the text of an element's data-again.
  link({ dataset }) {
    return Object.assign(document.createElement("a"), { href: location.href, textContent: dataset.again });
  }

  // Not location.reload(): if it failed, the browser would show its own error page.
  retryNavigation() {
    clearTimeout(this.retryTimer);
    if (document.querySelector(".load-error")) dispatchEvent(new PopStateEvent("popstate", { state: { htmx: true } }));
  }

  // Show that an action failed, until another one succeeds.
  showError(text) {
    const line = document.getElementById("error");
    line.hidden = !text;
    line.querySelector("span").textContent = text;
  }

  // What the line says of the connection is over. An action that failed is not repeated: its button is still there.
  forgetOffline() {
    if (document.querySelector("#error span").textContent === this.dataset.offline) this.showError("");
  }

  // The topmost visible row and its distance from the edge; null at the very top, where new rows should appear.
  topRow() {
    if (this.scrollTop === 0) return null;
    const edge = this.getBoundingClientRect().top;
    const row = [...this.querySelectorAll(".row")].find((each) => each.getBoundingClientRect().bottom > edge);
    return row && { id: row.id, distance: row.getBoundingClientRect().top - edge };
  }

  restoreScroll() {
    if (this.isOther) this.scrollTop = 0;
    this.isOther = false;
    const row = this.anchor && document.getElementById(this.anchor.id);
    if (row) this.scrollTop += row.getBoundingClientRect().top - this.getBoundingClientRect().top - this.anchor.distance;
  }

  // Which row has the focus, or whether it is in the sheet of views and filters, which is replaced too.
  rememberFocus() {
    const { activeElement } = document;
    const item = this.contains(activeElement) && activeElement.closest(".item");
    const at = [...this.querySelectorAll(".item")].indexOf(item);
    this.focused = item ? { at, id: item.querySelector(".row").id, isBox: activeElement.matches("input") } : activeElement.closest(".choice");
  }

  // htmx keeps the focus where the element is still there. In the place of a row that has left the list is the next one.
  restoreFocus() {
    const { focused } = this;
    this.focused = null;
    if (!focused || document.activeElement !== document.body) return;
    if (focused instanceof Element) return document.querySelector(".choice summary").focus();
    const items = [...this.querySelectorAll(".item")];
    const item = document.getElementById(focused.id)?.closest(".item") ?? items[Math.min(focused.at, items.length - 1)];
    item?.querySelector(focused.isBox ? "input" : ".row").focus({ preventScroll: true });
  }

  // The sheet of views and filters, while it is open.
  get sheet() {
    return document.querySelector(".choice[open]");
  }

  onKey(event) {
    const { sheet } = this;
    if (event.key !== "Escape" || event.defaultPrevented || !sheet?.contains(document.activeElement)) return;
    event.preventDefault();
    sheet.open = false;
    sheet.querySelector("summary").focus();
  }

  get chosen() {
    return document.querySelector("[data-conversation]")?.dataset.conversation;
  }

  // The row of the conversation that was open last or, where that row has left the list, the one in its place.
  get place() {
    const rows = this.querySelectorAll(".row");
    return rows[Math.min(this.at ?? 0, rows.length - 1)] ?? document.querySelector("#tabs [aria-current]");
  }

  // Mark the row of the open conversation. If none is open any more, focus its place.
  markCurrent() {
    const rows = [...this.querySelectorAll(".row")];
    const found = this.chosen && `found-${new URLSearchParams(location.search).get("at")}`;
    for (const row of rows) {
      if ([`row-${this.chosen}`, found].includes(row.id)) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    const at = rows.findIndex((row) => row.hasAttribute("aria-current"));
    if (at >= 0) this.at = at;
    if (!this.chosen && this.at !== undefined && document.activeElement === document.body) this.place?.focus({ preventScroll: true });
  }

  updateTitle() {
    const unread = Number(this.querySelector("[data-unread]")?.dataset.unread);
    const title = document.title.replace(/^\(\d+\) /, "");
    document.title = unread ? `(${unread}) ${title}` : title;
    document.dispatchEvent(new CustomEvent("unread", { detail: unread }));
  }

  moveFocus(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const rows = [...this.querySelectorAll(".row")];
    const next = rows[rows.indexOf(document.activeElement) + step];
    if (!step || !next) return;
    event.preventDefault();
    this.focusRow(next);
  }

  // A key leads to this row. At the last one, what is below it is scrolled into view, so that more rows come.
  focusRow(row) {
    row.focus();
    row.scrollIntoView({ block: "nearest" });
    if (row === [...this.querySelectorAll(".row")].at(-1)) this.querySelector(".more a")?.scrollIntoView({ block: "nearest" });
  }
}

customElements.define("inbox-list", InboxList);
