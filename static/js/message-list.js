// <message-list> manages the thread while htmx appends to it: the cursor, the scroll position, the day separators.
const NEAR = 120; // pixels; closer to the end counts as being at the end

const dayOf = (row) => date.format(new Date(timeOf(row)));
const timeOf = (row) => row.querySelector(".when time").dateTime;
let date; // only where there are messages: the first use of Intl takes 10 ms

class MessageList extends HTMLElement {
  connectedCallback() {
    this.list = this.querySelector("#messages");
    this.pill = this.querySelector(".pill");
    this.unseen = 0;
    this.list.addEventListener("htmx:configRequest", (event) => this.addCursor(event));
    this.list.addEventListener("htmx:beforeSwap", (event) => this.beforeSwap(event));
    this.list.addEventListener("htmx:afterSwap", () => this.afterSwap());
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
    return this.rowsFrom(this.list.firstElementChild);
  }

  // The rows from this child of the list to the end.
  rowsFrom(child) {
    const rows = [];
    for (; child; child = child.nextElementSibling) if (child.dataset.id) rows.push(child);
    return rows;
  }

  // The row of the newest message.
  get newest() {
    let row = this.list.lastElementChild;
    while (row && !row.dataset.id) row = row.previousElementSibling;
    return row;
  }

  // The cursor: the id of the newest message on the screen.
  get last() {
    return Number(this.newest?.dataset.id ?? 0);
  }

  get atEnd() {
    return this.scrollHeight - this.scrollTop - this.clientHeight < NEAR;
  }

  // Readers who have scrolled up stay where they are. A change of the list's height also fires a scroll event, which is ignored.
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
      detail.shouldSwap = false; // the response is to an outdated cursor: fetch again
      document.body.dispatchEvent(new CustomEvent("messages"));
      return;
    }
    const { newest, scrollHeight } = this;
    const replaced = newer && detail.swapOverride && this.rows; // the database was restored from a backup: the response is the whole list
    if (!newer || replaced) this.muteLiveRegion();
    this.pinned = replaced || this.atEnd;
    this.swapped = () => (newer ? this.afterNewer(newest, replaced) : this.afterOlder(scrollHeight));
  }

  // htmx fires this for every row of a response; all rows are there the first time.
  afterSwap() {
    this.swapped?.();
    this.swapped = null;
  }

  afterOlder(scrollHeight) {
    this.markDays();
    this.scrollTop += this.scrollHeight - scrollHeight; // keep the visible messages in place
    if (document.activeElement === document.body) (this.querySelector(".older a") || this).focus({ preventScroll: true });
  }

  // There may be thousands of rows, so only the new ones are processed. `newest` was the last row before; `replaced` are the rows
  // that were replaced.
  afterNewer(newest, replaced) {
    const fresh = newest && !replaced ? this.rowsFrom(newest.nextElementSibling) : this.rows;
    // A hidden row says that one further up was replaced, by one with the server's days.
    if (fresh.some((row) => row.hidden)) this.markDays();
    else this.markDays(fresh, !replaced && newest);
    document.dispatchEvent(new CustomEvent("messages-shown", { detail: fresh }));
    if (replaced) document.querySelector("chat-composer").lazy("offerLost", replaced);
    if (this.pinned) return this.toEnd();
    this.unseen += fresh.filter((row) => !row.dataset.clientId).length;
    const unseen = this.unseen.toLocaleString(document.documentElement.lang);
    this.pill.textContent = this.pill.dataset.words.replace("{n}", unseen);
    this.pill.hidden = this.unseen === 0;
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

  // The server inserts day separators in its own time zone: move them to the reader's. `previous` is the row before these rows.
  markDays(rows = this.rows, previous) {
    date ||= new Intl.DateTimeFormat("sv", { timeZone: document.documentElement.dataset.zone });
    let previousDay = previous && dayOf(previous);
    for (const row of rows) {
      const day = dayOf(row);
      const separator = row.querySelector(".day");
      if (day === previousDay) separator?.remove();
      else if (!separator) {
        const html = `<p class="day"><local-time data-as="day"><time datetime="${timeOf(row)}"></time></local-time></p>`;
        row.insertAdjacentHTML("afterbegin", html);
      }
      previousDay = day;
    }
  }
}

customElements.define("message-list", MessageList);
