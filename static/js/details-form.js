// <details-form> is a form that is opened beside a conversation. What is beside it is not replaced while the form is open, because that
// would take away what was typed.
let hadFocus = false; // before it was replaced: then the focus goes to where the form is opened again

class DetailsForm extends HTMLElement {
  connectedCallback() {
    const details = this.querySelector("details");
    const summary = this.querySelector("summary");
    const problem = this.querySelector(".problem");
    const place = this.closest("[hx-get]");
    this.disconnected = new AbortController();
    place.addEventListener("htmx:beforeSwap", ({ detail }) => {
      if (details.open && detail.requestConfig.elt === place) detail.shouldSwap = false;
      hadFocus = detail.shouldSwap && this.contains(document.activeElement);
    }, this.disconnected);
    this.addEventListener("htmx:responseError", (event) => {
      const { xhr } = event.detail;
      if (xhr.status !== 422) return;
      event.stopPropagation(); // it stands here, not above the page
      Object.assign(problem, { hidden: false, textContent: xhr.responseText });
    });
    details.addEventListener("toggle", () => {
      if (details.open) this.querySelector("[name=name]").focus();
      else document.body.dispatchEvent(new CustomEvent("state")); // what was held back
    });
    details.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape") return;
      details.open = false;
      summary.focus();
    });
    if (hadFocus) summary.focus({ preventScroll: true });
    hadFocus = false;
  }

  disconnectedCallback() {
    this.disconnected.abort();
  }
}

customElements.define("details-form", DetailsForm);
