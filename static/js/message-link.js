// <message-link> in the menu of a message copies a link to it. This also opens that menu, from the time below the message.
class MessageLink extends HTMLElement {
  connectedCallback() {
    this.button = this.querySelector("button");
    this.button.addEventListener("click", () => this.copy());
  }

  async copy() {
    const { link, copied } = this.button.dataset;
    await navigator.clipboard.writeText(link);
    this.button.querySelector(".label").textContent = copied;
    this.querySelector("[role=status]").textContent = copied;
  }
}

customElements.define("message-link", MessageLink);

// A new tab, or a window, gets the menu as a page.
document.body.addEventListener("click", (event) => {
  const link = event.target.closest?.("#messages .sent-at");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  htmx.ajax("GET", link.href, { source: link, target: "#menu" });
});

// The row of a message that was taken back is replaced: what had the focus in it has it in the new one, and the days are the reader's.
document.body.addEventListener("htmx:oobBeforeSwap", ({ detail: { target } }) => {
  const thread = target.closest("message-list");
  if (!thread) return;
  setTimeout(() => thread.markDays());
  if (!target.contains(document.activeElement)) return;
  const { id } = target;
  document.body.addEventListener("htmx:oobAfterSwap", () => document.querySelector(`#${id} .sent-at`)?.focus({ preventScroll: true }), { once: true });
});
