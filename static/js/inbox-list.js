// <inbox-list> keeps the list alive without moving it under your eyes or taking the focus away.
class InboxList extends HTMLElement {
  connectedCallback() {
    this.addEventListener("htmx:configRequest", ({ detail }) => {
      if (detail.elt === this && this.chosen) detail.parameters.chosen = this.chosen;
    });
    this.addEventListener("htmx:beforeSwap", ({ detail }) => {
      if (detail.target !== this) return;
      if (detail.serverResponse === this.shown) detail.shouldSwap = false;
      this.shown = detail.serverResponse;
    });
    // A list that was asked for before you went elsewhere marks the row where you were: so it is marked anew.
    this.addEventListener("htmx:afterSwap", () => (this.title(), this.choose()));
    this.addEventListener("keydown", (event) => this.walk(event));
    document.body.addEventListener("htmx:afterSettle", ({ detail }) => {
      if (detail.target?.id === "conversation") this.choose();
      if (detail.target?.id === "state" && document.activeElement === document.body) {
        detail.target.querySelector("h2").focus();
      }
    });
    document.body.addEventListener("htmx:historyRestore", () => this.choose());
    document.body.addEventListener("htmx:historyCacheMiss", ({ detail }) => this.travel(detail.xhr));
    document.body.addEventListener("htmx:beforeRequest", ({ detail }) => {
      if (detail.target.id === "conversation") this.travel(null);
    });
  }

  // Where you went last is what you see: what was on its way before must not arrive after it.
  travel(xhr) {
    this.travelling?.abort();
    this.travelling = xhr;
    if (xhr) document.getElementById("conversation").dispatchEvent(new CustomEvent("htmx:abort", { bubbles: true, detail: {} }));
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
    document.title = unread ? `(${unread}) Inbox` : "Inbox";
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
