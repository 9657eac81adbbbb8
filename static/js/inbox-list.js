// <inbox-list> keeps the list alive without moving it under your eyes or taking the focus away.
const AGAIN = 5000; // milliseconds until what could not be loaded is tried again
const TIMEOUT = 15000; // milliseconds, as for htmx's own requests

// Whether somebody asked for it, and not the page itself.
const isDeed = (element) => !element.matches("inbox-list, #messages, #state");

const sentence = (xhr) => xhr.getResponseHeader("Content-Type")?.startsWith("text/plain") && xhr.responseText;

class InboxList extends HTMLElement {
  connectedCallback() {
    this.addEventListener("htmx:configRequest", ({ detail }) => {
      if (detail.elt === this && this.chosen) detail.parameters.chosen = this.chosen;
    });
    this.addEventListener("htmx:beforeSwap", ({ detail }) => {
      if (detail.target !== this) return;
      if (detail.serverResponse === this.shown) detail.shouldSwap = false;
      else this.place = this.topRow();
      this.shown = detail.serverResponse;
    });
    // A list that was asked for before you went elsewhere marks the row where you were: so it is marked anew.
    this.addEventListener("htmx:afterSwap", () => (this.stay(), this.title(), this.choose()));
    this.addEventListener("keydown", (event) => this.walk(event));
    this.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });

    const on = (name, hear) => document.body.addEventListener(name, ({ detail }) => hear(detail));
    on("ring", (ring) => this.hear(ring));
    on("htmx:afterSettle", ({ target }) => this.settled(target));
    on("htmx:historyRestore", () => this.choose());
    on("htmx:historyCacheMiss", ({ xhr }) => this.travel(xhr));
    on("htmx:historyCacheMissLoadError", () => this.stranded());
    on("htmx:beforeRequest", ({ target }) => target.id === "conversation" && this.travel(null));
    on("htmx:afterRequest", ({ elt, successful }) => successful && isDeed(elt) && this.trouble(""));
    on("htmx:responseError", ({ elt, xhr }) => isDeed(elt) && this.trouble(sentence(xhr) || this.dataset.broken));
    for (const failure of ["htmx:sendError", "htmx:timeout"]) {
      on(failure, ({ elt }) => isDeed(elt) && this.trouble(this.dataset.offline));
    }
    document.addEventListener("connected", () => this.goThereAgain());
    addEventListener("online", () => this.goThereAgain());
    addEventListener("dragover", (event) => this.keepOut(event));
    const bell = document.querySelector("door-bell");
    bell.addEventListener("out", () => bell.append(" ", this.link(bell)));
  }

  // A ring names its conversation, whose messages are fetched only where it is shown. `beside`: no list shows what is new.
  hear({ conversation, beside }) {
    const isHere = conversation === undefined || String(conversation) === this.chosen;
    if (isHere) document.body.dispatchEvent(new CustomEvent("messages"));
    if (isHere || !beside) document.body.dispatchEvent(new CustomEvent("inbox"));
  }

  // A file that is dropped where no composer takes it would be opened by the browser.
  keepOut(event) {
    if (event.defaultPrevented || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "none";
  }

  settled(target) {
    if (target?.id === "conversation") this.choose();
    if (!["conversation", "state"].includes(target?.id) || document.activeElement !== document.body) return;
    target.querySelector("h2")?.focus({ preventScroll: true });
  }

  // Where you went last is what you see: what was on its way before must not arrive after it.
  travel(xhr) {
    this.travelling?.abort();
    this.travelling = xhr;
    if (!xhr) return;
    xhr.timeout = TIMEOUT;
    xhr.onerror = xhr.ontimeout = () => this.stranded();
    const pane = document.getElementById("conversation");
    pane.dispatchEvent(new CustomEvent("htmx:abort", { bubbles: true, detail: {} }));
  }

  // You went back to something that does not come. What you left must not stand under its address.
  stranded() {
    const words = document.createElement("p");
    words.append(`${this.dataset.missing} `, this.link(this));
    const box = Object.assign(document.createElement("div"), { className: "nothing stranded" });
    box.append(words);
    document.getElementById("conversation").replaceChildren(box);
    clearTimeout(this.again);
    this.again = setTimeout(() => this.goThereAgain(), AGAIN);
  }

  // To the page where you are, in the words of an element that has them.
  link({ dataset }) {
    return Object.assign(document.createElement("a"), { href: location.href, textContent: dataset.again });
  }

  // As if you had just gone there. Not by loading the page anew: should it fail again, there would be no page.
  goThereAgain() {
    clearTimeout(this.again);
    if (document.querySelector(".stranded")) dispatchEvent(new PopStateEvent("popstate", { state: { htmx: true } }));
  }

  // What became of something that you did, if it failed: in words, until something succeeds.
  trouble(words) {
    const line = document.getElementById("trouble");
    line.hidden = !words;
    line.querySelector("span").textContent = words;
  }

  // The row at the top of what you see, and how far it is from the edge. None at the very top, where news should show.
  topRow() {
    if (this.scrollTop === 0) return null;
    const edge = this.getBoundingClientRect().top;
    const row = [...this.querySelectorAll(".row")].find((each) => each.getBoundingClientRect().bottom > edge);
    return row && { id: row.id, distance: row.getBoundingClientRect().top - edge };
  }

  stay() {
    const row = this.place && document.getElementById(this.place.id);
    if (row) this.scrollTop += row.getBoundingClientRect().top - this.getBoundingClientRect().top - this.place.distance;
  }

  get chosen() {
    return document.querySelector("[data-conversation]")?.dataset.conversation;
  }

  // Mark the row of the conversation that is open. After the last one was left, its row is where you go on.
  choose() {
    if (!this.chosen && document.activeElement === document.body) {
      this.querySelector("[aria-current]")?.focus({ preventScroll: true });
    }
    for (const row of this.querySelectorAll(".row")) {
      if (row.id === `row-${this.chosen}`) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  }

  title() {
    const unread = Number(this.querySelector("[data-unread]")?.dataset.unread);
    const words = document.title.replace(/^\(\d+\) /, "");
    document.title = unread ? `(${unread}) ${words}` : words;
  }

  walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const rows = [...this.querySelectorAll(".row")];
    const next = rows[rows.indexOf(document.activeElement) + step];
    if (!step || !next) return;
    event.preventDefault();
    next.focus();
  }
}

customElements.define("inbox-list", InboxList);
