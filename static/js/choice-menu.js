// <choice-menu> is the content of a menu: for labels, assignees and so on, commands, keys. What is typed narrows it, arrows move in it.
const OPTIONS = ".options :is(button, .option)";
const OWN = ".options :is(button, .option):not(.named *)"; // not those that the server has found for what is typed

class ChoiceMenu extends HTMLElement {
  connectedCallback() {
    this.field = this.querySelector(".narrow");
    this.fold = (text) => text.trim().toLocaleLowerCase();
    this.addEventListener("input", ({ target }) => target === this.field && this.narrow());
    this.addEventListener("htmx:afterSettle", () => this.narrow());
    this.addEventListener("keydown", (event) => this.onKey(event));
    this.narrow();
  }

  // Once it is shown. `typed` was typed before.
  begin(typed) {
    if (this.field && typed) this.field.value = typed;
    this.field?.dispatchEvent(new Event("input", { bubbles: true }));
    (this.field ?? this.querySelector(OPTIONS) ?? this.querySelector(".options[tabindex]") ?? this.querySelector(".dismiss"))?.focus();
  }

  name(button) {
    return this.fold((button.querySelector(".label") ?? button).textContent);
  }

  get buttons() {
    return [...this.querySelectorAll(OPTIONS)].filter((button) => !button.hidden);
  }

  // Show the choices that have what was typed, and offer to create a label only if there is none of this name.
  narrow() {
    if (!this.field) return;
    const typed = this.fold(this.field.value);
    const names = [...this.querySelectorAll(OWN)].map((button) => {
      const name = this.name(button);
      button.hidden = !name.includes(typed);
      return name;
    });
    for (const group of this.querySelectorAll(".options section")) group.hidden = !group.querySelector(":is(button, .option):not([hidden])");
    const none = this.querySelector(".none");
    if (none) none.hidden = this.buttons.length > 0;
    this.classList.toggle("creates", Boolean(typed) && !names.includes(typed));
  }

  onKey(event) {
    if (event.isComposing || window.isComposing?.(event)) return;
    const { buttons } = this;
    if (!this.field && !buttons.length) return; // arrows scroll it
    const at = buttons.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    const isText = event.target.matches("input:not([type=radio])");
    if (event.key === "Enter" && event.target === this.field) {
      event.preventDefault();
      const exact = buttons.find((button) => this.name(button) === this.fold(this.field.value));
      const first = this.field.value.trim() ? exact ?? buttons[0] : null;
      (first ?? this.querySelector(".create"))?.click();
    } else if (next !== undefined && !(isText && event.key !== "ArrowDown") && !event.target.matches("[type=radio], [type=datetime-local]")) {
      event.preventDefault();
      (buttons[Math.min(next, buttons.length - 1)] ?? this.field)?.focus();
    }
  }
}

customElements.define("choice-menu", ChoiceMenu);
