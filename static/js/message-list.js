// <message-list> keeps the thread in order while htmx appends to it: the cursor, the place where you read, the days.
const NEAR = 120; // pixels from the end that still count as reading the newest

class MessageList extends HTMLElement {
  connectedCallback() {
    this.list = this.querySelector("#messages");
    this.pill = this.querySelector(".pill");
    this.unseen = 0;
    this.list.addEventListener("htmx:configRequest", (event) => this.ask(event));
    this.list.addEventListener("htmx:beforeSwap", (event) => this.beforeSwap(event));
    this.list.addEventListener("htmx:afterSwap", (event) => this.afterSwap(event));
    this.pill.addEventListener("click", () => (this.toEnd(), this.focus()));
    this.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.gone = new AbortController();
    document.addEventListener("visibilitychange", () => this.atEnd && this.seen(), this.gone);
    this.resized = new ResizeObserver(() => {
      this.tall = this.clientHeight;
      if (this.pinned) this.toEnd();
    });
    this.resized.observe(this);
    this.resized.observe(this.list.closest(".column")); // what stands in it may also grow by itself, as pictures do
    this.pinned = true;
    this.markDays();
    this.toEnd();
  }

  disconnectedCallback() {
    this.gone.abort();
    this.resized.disconnect();
  }

  get rows() {
    return [...this.list.querySelectorAll(":scope > [data-id]")];
  }

  // The id of the newest message on the screen. It is the only cursor there is.
  get last() {
    return Number(this.rows.at(-1)?.dataset.id ?? 0);
  }

  get atEnd() {
    return this.scrollHeight - this.scrollTop - this.clientHeight < NEAR;
  }

  // Whoever reads further up is left there. A list that has just become higher or lower scrolls by itself: that says nothing.
  scrolled() {
    if (this.clientHeight === this.tall) this.pinned = this.atEnd;
    if (this.atEnd) this.seen();
  }

  ask({ detail }) {
    if (detail.elt === this.list) detail.parameters.since = this.last;
  }

  beforeSwap({ detail }) {
    const newer = detail.requestConfig.elt === this.list;
    if (newer && Number(detail.requestConfig.parameters.since) !== this.last) {
      detail.shouldSwap = false; // an answer to a question of before: ask again
      document.body.dispatchEvent(new CustomEvent("messages"));
      return;
    }
    this.before = newer ? this.last : null;
    if (!newer) this.hush();
    this.swapping = true;
    this.height = this.scrollHeight;
    this.pinned = this.atEnd;
  }

  // htmx says this once for every row of an answer; the rows are all there by the first time.
  afterSwap() {
    if (!this.swapping) return;
    this.swapping = false;
    this.markDays();
    if (this.before === null) {
      this.scrollTop += this.scrollHeight - this.height; // older ones above: what you read stays where it is
      if (document.activeElement === document.body) (this.querySelector(".older a") || this).focus({ preventScroll: true });
      return;
    }
    const fresh = this.rows.filter((row) => row.dataset.id > this.before);
    document.dispatchEvent(new CustomEvent("messages-shown", { detail: fresh }));
    if (this.pinned) this.toEnd();
    else {
      this.unseen += fresh.filter((row) => !row.dataset.clientId).length;
      const unseen = this.unseen.toLocaleString(document.documentElement.lang);
      this.pill.textContent = this.pill.dataset.words.replace("{n}", unseen);
      this.pill.hidden = this.unseen === 0;
    }
  }

  // Older messages are no news, and are not read out as such.
  hush() {
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

  // The server separates days by its own clock; the reader's may turn elsewhere.
  markDays() {
    let before = null;
    for (const row of this.rows) {
      const time = row.querySelector(".when time");
      const day = new Date(time.dateTime).toDateString();
      const mark = row.querySelector(".day");
      if (day === before) mark?.remove();
      else if (!mark) {
        const when = `<time datetime="${time.dateTime}"></time>`;
        row.insertAdjacentHTML("afterbegin", `<p class="day"><local-time data-as="day">${when}</local-time></p>`);
      }
      before = day;
    }
  }
}

customElements.define("message-list", MessageList);
