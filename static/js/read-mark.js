// <read-mark> in an agent's <message-list> tells the server what has been read.
const TIMEOUT = 15000; // milliseconds until a request times out
const RETRY = 4000; // milliseconds until the first retry; the delay doubles with each further one
const MAX_DOUBLINGS = 4;

class ReadMark extends HTMLElement {
  connectedCallback() {
    this.list = this.closest("message-list");
    this.read = Number(this.dataset.readUpTo);
    this.tries = 0;
    this.list.addEventListener("seen", () => this.onSeen());
    this.disconnected = new AbortController();
    document.body.addEventListener("htmx:configRequest", ({ detail }) => this.addLastSeen(detail), this.disconnected);
    if (!document.hidden) this.onSeen();
  }

  disconnectedCallback() {
    this.disconnected.abort();
  }

  // To close or snooze a conversation, send the id of the newest message on the screen: the server refuses it if there are newer ones.
  addLastSeen({ elt, parameters }) {
    if (elt.elements?.last || elt.closest(".menus")) parameters.last = Math.max(this.list.last, this.read);
  }

  onSeen() {
    if (this.list.querySelector(".newer")) return; // a page in the middle
    const { last } = this.list;
    if (last < this.seen) this.read = 0; // the database was restored
    this.seen = last;
    if (!this.retry) this.send();
  }

  // Tell the server, and retry until it has stored it: there may be no further message that would cause another request.
  async send() {
    const { seen } = this;
    if (this.sending || seen <= this.read) return;
    this.retry = null;
    this.sending = true;
    const status = await this.post(seen).catch(() => 0);
    this.sending = false;
    if (status >= 200 && status < 300) {
      this.read = seen;
      this.tries = 0;
      document.body.dispatchEvent(new CustomEvent("inbox"));
      if (seen !== this.seen) this.send();
    } else if (status === 0 || status === 429 || status >= 500) {
      const wait = RETRY * 2 ** Math.min(MAX_DOUBLINGS, this.tries++);
      this.retry = setTimeout(() => this.send(), wait * (0.5 + Math.random() / 2));
    }
  }

  async post(last) {
    const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
    const headers = { "X-CSRFToken": token, "HX-Request": "true" };
    const body = new URLSearchParams({ last });
    const signal = AbortSignal.timeout?.(TIMEOUT);
    return (await fetch(this.dataset.read, { method: "POST", headers, body, signal })).status;
  }
}

customElements.define("read-mark", ReadMark);
