// <read-mark> in an agent's <message-list> marks the first unread message, and tells the server what has been read.
class ReadMark extends HTMLElement {
  connectedCallback() {
    this.list = this.closest("message-list");
    this.read = Number(this.dataset.readUpTo);
    this.list.addEventListener("seen", () => this.send());
    this.disconnected = new AbortController();
    document.body.addEventListener("htmx:configRequest", ({ detail }) => this.addLastSeen(detail), this.disconnected);
    if (!document.hidden) this.send();
    const row = document.getElementById(`message-${this.dataset.firstUnread}`);
    row?.classList.add("first-unread");
    row?.setAttribute("data-new", this.dataset.new);
  }

  disconnectedCallback() {
    this.disconnected.abort();
  }

  // Closing says what is on the screen at this moment: the server refuses it if the customer has written more.
  addLastSeen({ elt, parameters }) {
    if (elt.elements?.last) parameters.last = Math.max(this.list.last, this.read);
  }

  send() {
    if (this.list.last <= this.read) return;
    this.read = this.list.last;
    const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
    const headers = { "X-CSRFToken": token, "HX-Request": "true" };
    fetch(this.dataset.read, { method: "POST", headers, body: new URLSearchParams({ last: this.read }) })
      .then(({ ok }) => (ok ? document.body.dispatchEvent(new CustomEvent("inbox")) : (this.read = 0)))
      .catch(() => (this.read = 0)); // the next message tries again
  }
}

customElements.define("read-mark", ReadMark);
