// <writing-modes> has the links to write a reply or a note. Each has a composer of its own, with its own draft and unsent messages:
// those of the one that leaves are still sent, but their rows leave with it. They come back with it, if they are still unsent.
class WritingModes extends HTMLElement {
  connectedCallback() {
    const place = this.parentElement;
    place.addEventListener("htmx:beforeSwap", ({ detail }) => {
      if (detail.target !== place || !detail.shouldSwap) return;
      for (const { row } of place.querySelector("chat-composer").items) row.remove();
    });
  }
}

customElements.define("writing-modes", WritingModes);
