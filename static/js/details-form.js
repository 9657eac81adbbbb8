// <details-form> is a form that is opened beside a conversation. What is beside it is not replaced while the form is open, because that
// would take away what was typed.
class DetailsForm extends HTMLElement {
  connectedCallback() {
    const details = this.querySelector("details");
    const place = this.closest("[hx-get]");
    this.disconnected = new AbortController();
    place.addEventListener("htmx:beforeSwap", ({ detail }) => {
      if (details.open && detail.requestConfig.elt === place) detail.shouldSwap = false;
    }, this.disconnected);
    details.addEventListener("toggle", () => {
      if (details.open) this.querySelector("input:not([type=hidden])").focus();
      else document.body.dispatchEvent(new CustomEvent("state")); // what was held back
    });
    details.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape") return;
      details.open = false;
      details.querySelector("summary").focus();
    });
  }

  disconnectedCallback() {
    this.disconnected.abort();
  }
}

customElements.define("details-form", DetailsForm);
