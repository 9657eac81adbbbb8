// <search-field> searches as the agent types. What is found stands in the place of the list; inbox-list.js loads it.
const PAUSE = 200; // milliseconds after the last letter
const LEAST = 2; // letters

// Chinese, Japanese, Thai and others: one letter may be a word.
const DENSE = /[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff]/;

class SearchField extends HTMLElement {
  connectedCallback() {
    this.form = this.querySelector("form");
    this.field = this.querySelector("input[type=search]");
    this.list = document.getElementById("list");
    const on = (name, handle) => document.body.addEventListener(name, handle);
    this.field.addEventListener("input", ({ isComposing }) => isComposing || this.onInput());
    this.field.addEventListener("compositionend", () => this.onInput());
    this.field.addEventListener("keydown", (event) => this.onFieldKey(event));
    this.form.addEventListener("htmx:configRequest", ({ detail }) => this.addList(detail.parameters));
    for (const failure of ["htmx:sendError", "htmx:timeout"]) this.form.addEventListener(failure, () => (this.failed = true));
    document.addEventListener("connected", () => this.failed && this.search());
    document.addEventListener("keydown", (event) => this.onKey(event));
    this.list.addEventListener("click", ({ target }) => target.closest("#leave-search") && (this.field.value = ""));
    on("htmx:afterSettle", ({ target }) => target === this.list && this.afterList());
    on("htmx:historyRestore", () => (this.field.value = this.asked));
    // A page that was opened from elsewhere has not searched.
    if (this.asked && !this.results) this.whenReady(() => ((this.field.value = this.asked), this.search()));
  }

  // htmx listens from DOMContentLoaded on.
  whenReady(act) {
    if (document.readyState === "complete") act();
    else document.addEventListener("DOMContentLoaded", () => setTimeout(act), { once: true });
  }

  get asked() {
    return new URLSearchParams(location.search).get("q") ?? "";
  }

  get results() {
    return this.list.querySelector(".results");
  }

  onInput() {
    clearTimeout(this.timer);
    const text = this.field.value.trim();
    if (text && text.length < LEAST && !DENSE.test(text)) return;
    this.timer = setTimeout(() => this.search(), PAUSE);
  }

  search() {
    clearTimeout(this.timer);
    this.timer = null;
    this.failed = false;
    this.searched = this.field.value.trim();
    this.form.dispatchEvent(new CustomEvent("type"));
  }

  // The list to which the agent goes back may be another one by now.
  addList(parameters) {
    for (const name of Object.keys(parameters)) if (!["q", "chosen", "shown"].includes(name)) delete parameters[name];
    for (const [name, value] of new URLSearchParams(document.getElementById("lists").dataset.query)) {
      if (name !== "q" && name !== "after") parameters[name] = value;
    }
  }

  onFieldKey(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.leave();
    } else if (event.key === "ArrowDown" || (event.key === "Enter" && this.results && !this.timer && this.searched !== undefined)) {
      event.preventDefault();
      const row = this.list.querySelector(".row");
      row?.focus();
      if (event.key === "Enter") row?.click();
    }
  }

  onKey(event) {
    if (event.key !== "Escape" || event.defaultPrevented || !this.results) return;
    if (event.target.closest("textarea, select, input, [popover], dialog") || document.querySelector("[popover].menu > *")) return;
    this.leave();
  }

  leave() {
    clearTimeout(this.timer);
    this.field.value = "";
    if (this.results) this.search();
    this.field.blur();
  }

  afterList() {
    const { results } = this;
    this.querySelector("[role=status]").textContent = results?.dataset.said ?? "";
    if (!results && document.activeElement !== this.field) this.field.value = "";
  }
}

customElements.define("search-field", SearchField);
