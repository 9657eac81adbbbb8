// <message-list> manages the thread while htmx appends to it: the cursor, the scroll position, the day separators.
const NEAR = 120; // pixels; closer to the end counts as being at the end

class MessageList extends HTMLElement {
  connectedCallback() {
    this.list = this.querySelector("#messages");
    this.pill = this.querySelector(".pill");
    this.unseen = 0;
    this.list.addEventListener("htmx:configRequest", (event) => this.addCursor(event));
    this.list.addEventListener("htmx:beforeSwap", (event) => this.beforeSwap(event));
    this.list.addEventListener("htmx:afterSwap", (event) => this.afterSwap(event));
    this.pill.addEventListener("click", () => (this.toEnd(), this.focus()));
    this.addEventListener("scroll", () => this.onScroll(), { passive: true });
    this.disconnected = new AbortController();
    document.addEventListener("visibilitychange", () => this.atEnd && this.seen(), this.disconnected);
    this.resized = new ResizeObserver(() => {
      this.lastHeight = this.clientHeight;
      if (this.pinned) this.toEnd();
    });
    this.resized.observe(this);
    this.resized.observe(this.list.closest(".column")); // pictures grow as they load
    this.pinned = true;
    this.markDays();
    this.toEnd();
  }

  disconnectedCallback() {
    this.disconnected.abort();
    this.resized.disconnect();
  }

  get rows() {
    return [...this.list.querySelectorAll(":scope > [data-id]")];
  }

  // The cursor: the id of the newest message on the screen.
  get last() {
    return Number(this.rows.at(-1)?.dataset.id ?? 0);
  }

  get atEnd() {
    return this.scrollHeight - this.scrollTop - this.clientHeight < NEAR;
  }

  // A reader who scrolled up stays there. A change of the list's own height also scrolls it, and is ignored.
  onScroll() {
    if (this.clientHeight === this.lastHeight) this.pinned = this.atEnd;
    if (this.atEnd) this.seen();
  }

  addCursor({ detail }) {
    if (detail.elt === this.list) detail.parameters.since = this.last;
  }

  beforeSwap({ detail }) {
    const newer = detail.requestConfig.elt === this.list;
    if (newer && Number(detail.requestConfig.parameters.since) !== this.last) {
      detail.shouldSwap = false; // the answer to an outdated cursor: ask again
      document.body.dispatchEvent(new CustomEvent("messages"));
      return;
    }
    this.cursor = newer ? this.last : null;
    if (!newer) this.muteLiveRegion();
    this.swapping = true;
    this.height = this.scrollHeight;
    this.pinned = this.atEnd;
  }

  // htmx fires this for every row of a response; all rows are there the first time.
  afterSwap() {
    if (!this.swapping) return;
    this.swapping = false;
    this.markDays();
    if (this.cursor === null) {
      this.scrollTop += this.scrollHeight - this.height; // older messages were inserted above: keep what you read in place
      if (document.activeElement === document.body) (this.querySelector(".older a") || this).focus({ preventScroll: true });
      return;
    }
    const fresh = this.rows.filter((row) => row.dataset.id > this.cursor);
    document.dispatchEvent(new CustomEvent("messages-shown", { detail: fresh }));
    if (this.pinned) this.toEnd();
    else {
      this.unseen += fresh.filter((row) => !row.dataset.clientId).length;
      const unseen = this.unseen.toLocaleString(document.documentElement.lang);
      this.pill.textContent = this.pill.dataset.words.replace("{n}", unseen);
      this.pill.hidden = this.unseen === 0;
    }
  }

  // Screen readers must not announce older messages as new.
  muteLiveRegion() {
    const log = this.list.parentElement;
    log.setAttribute("aria-live", "off");
    setTimeout(() => log.removeAttribute("aria-live"), 1000);
  }

  toEnd() {
    this.scrollTop = this.scrollHeight;
    this.pinned = true;
    this.seen();
  }

  seen() {
    if (document.hidden) return;
    this.unseen = 0;
    this.pill.hidden = true;
    this.dispatchEvent(new CustomEvent("seen"));
  }

  // The server separates days in its own time zone: separate them in the reader's.
  markDays() {
    let previousDay = null;
    for (const row of this.rows) {
      const time = row.querySelector(".when time");
      const day = new Date(time.dateTime).toDateString();
      const separator = row.querySelector(".day");
      if (day === previousDay) separator?.remove();
      else if (!separator) {
        const html = `<time datetime="${time.dateTime}"></time>`;
        row.insertAdjacentHTML("afterbegin", `<p class="day"><local-time data-as="day">${html}</local-time></p>`);
      }
      previousDay = day;
    }
  }
}

customElements.define("message-list", MessageList);
