// <found-message> in an agent's <message-list> opens the thread at one of its messages. If newer ones follow that are not on the
// screen yet, they are added on demand: until then the polls bring none, because they would come after a gap.
class FoundMessage extends HTMLElement {
  connectedCallback() {
    this.thread = this.closest("message-list");
    const { list } = this.thread;
    this.disconnected = new AbortController();
    const on = (name, handle) => list.addEventListener(name, handle, this.disconnected);
    on("htmx:configRequest", ({ detail }) => detail.elt === list && this.hasGap && (detail.parameters.gap = this.dataset.last));
    on("htmx:beforeSwap", (event) => this.beforeSwap(event));
    // What the agent writes comes after the newest message.
    this.sent = new MutationObserver(() => this.waiting.childElementCount && this.hasGap && this.newest.click());
    this.waiting = this.thread.querySelector(".messages.waiting");
    this.sent.observe(this.waiting, { childList: true });
    // The end of a page in the middle is not the end of the thread.
    Object.defineProperty(this.thread, "atEnd", { configurable: true, get: () => false });
    if (!this.hasGap) this.reachEnd();
    this.show();
  }

  disconnectedCallback() {
    this.disconnected.abort();
    this.sent.disconnect();
  }

  get hasGap() {
    return this.thread.list.querySelector(":scope > .newer") !== null;
  }

  get newest() {
    return this.thread.querySelector(".newest");
  }

  // Pictures above it may load later, so again until the agent scrolls.
  show() {
    const row = document.getElementById(this.dataset.row);
    if (!row) return;
    const { thread } = this;
    thread.pinned = false;
    const center = () => row.scrollIntoView({ block: "center" });
    center();
    row.classList.add("found");
    const resized = new ResizeObserver(center);
    resized.observe(thread.list);
    this.disconnected.signal.addEventListener("abort", () => resized.disconnect());
    for (const name of ["wheel", "touchstart", "keydown", "pointerdown"]) {
      thread.addEventListener(name, () => resized.disconnect(), { once: true, passive: true });
    }
  }

  // A poll brings only what was taken back since the last one.
  beforeSwap({ target, detail: { requestConfig, xhr } }) {
    const { thread } = this;
    this.dataset.last = xhr.getResponseHeader("X-Removal") ?? this.dataset.last;
    const isNewest = requestConfig.elt === this.newest;
    if (!isNewest && !target.matches(".newer")) return;
    const before = target.previousElementSibling;
    const { scrollTop } = thread;
    thread.swapped = () => {
      const fresh = isNewest ? thread.rows : thread.rowsFrom(before.nextElementSibling);
      thread.markDays(fresh, !isNewest && before);
      document.dispatchEvent(new CustomEvent("messages-shown", { detail: fresh }));
      if (!this.hasGap) this.reachEnd();
      if (isNewest) thread.toEnd();
      else thread.scrollTop = scrollTop;
    };
  }

  // All is on the screen. From now on the polls bring what is new, also what has come since.
  reachEnd() {
    delete this.thread.atEnd;
    this.newest?.remove();
    document.body.dispatchEvent(new CustomEvent("messages"));
  }
}

customElements.define("found-message", FoundMessage);
