// <quote-link> in the menu of a message puts its text as a quote into the field, instead of opening a page that has it there.
class QuoteLink extends HTMLElement {
  connectedCallback() {
    this.link = this.querySelector("a");
    this.link.addEventListener("click", (event) => this.onClick(event));
  }

  onClick(event) {
    const writing = document.querySelector("#writing");
    if (!writing || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const { quote, note } = this.link.dataset;
    const write = () => document.querySelector("#writing format-bar").quote(quote);
    document.querySelector("#menu").hidePopover?.();
    if (!note || writing.matches(".note")) return write();
    // Notes are quoted only in notes.
    document.body.addEventListener("htmx:afterSettle", write, { once: true });
    document.querySelector("#note").click();
  }
}

customElements.define("quote-link", QuoteLink);
