// <seen-line> below the messages says when the other side has seen the last one. It is empty as soon as there is another message: the
// server says when that one was seen.
class SeenLine extends HTMLElement {
  connectedCallback() {
    this.disconnected = new AbortController();
    document.addEventListener("messages-shown", () => this.replaceChildren(), this.disconnected);
    this.sent = new MutationObserver(([{ addedNodes }]) => addedNodes.length && this.replaceChildren());
    this.sent.observe(document.querySelector(".messages.waiting"), { childList: true });
  }

  disconnectedCallback() {
    this.disconnected.abort();
    this.sent.disconnect();
  }
}

customElements.define("seen-line", SeenLine);
