// <customer-name> has what the customer is called. It is part of the header, which is fetched again when that has changed, and
// whatever else on the page names the customer follows it.
class CustomerName extends HTMLElement {
  connectedCallback() {
    this.disconnected = new AbortController();
    // Messages of a slower response may still have an earlier name.
    document.addEventListener("htmx:afterOnLoad", () => this.show(), this.disconnected);
    this.show();
  }

  disconnectedCallback() {
    this.disconnected.abort();
  }

  show() {
    const page = this.closest(".open-one");
    page.querySelector("typing-line").dataset.name = this.querySelector(".name").textContent;
    const others = [...page.querySelectorAll("#messages > .theirs > .by")].filter((by) => by.innerHTML !== this.innerHTML);
    if (!others.length) return;
    page.querySelector("message-list").muteLiveRegion();
    for (const by of others) by.innerHTML = this.innerHTML;
  }
}

customElements.define("customer-name", CustomerName);
