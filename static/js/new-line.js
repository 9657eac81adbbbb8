// <new-line> in an agent's <message-list> opens the thread at the line "New", where the agent stopped reading, if it is not on the
// screen. It shows the button to the newest message whenever they have scrolled up.
const MARGIN = 72; // pixels of what was read, above the line

class NewLine extends HTMLElement {
  connectedCallback() {
    this.thread = this.closest("message-list");
    this.disconnected = new AbortController();
    const { signal } = this.disconnected;
    this.thread.addEventListener("scroll", () => this.showButton(), { passive: true, signal });
    // After message-list has counted them.
    document.addEventListener("messages-shown", () => queueMicrotask(() => this.showButton()), { signal });
    // Before message-list measures the list.
    this.thread.addEventListener("htmx:afterSwap", () => this.keepFirst(), { capture: true, signal });
    const line = this.thread.querySelector(".new-line");
    const distance = line && line.getBoundingClientRect().top - this.thread.getBoundingClientRect().top;
    if (!line || distance >= 0) return;
    this.thread.pinned = false;
    this.thread.scrollTop += distance - MARGIN;
    this.showButton();
  }

  disconnectedCallback() {
    this.disconnected.abort();
  }

  // Of an older page that was added, the line stands earlier.
  keepFirst() {
    const [, ...others] = this.thread.querySelectorAll(".new-line");
    for (const line of others) line.remove();
  }

  showButton() {
    const { thread } = this;
    if (thread.atEnd || thread.unseen || thread.querySelector(".newer")) return;
    thread.pill.textContent = this.dataset.jump;
    thread.pill.hidden = false;
  }
}

customElements.define("new-line", NewLine);
