// <pick-bar> keeps which rows of the list are selected, opens the menus that change them, and knows the keys for all that.
const picks = () => [...document.querySelectorAll("#list .pick input")];
const picked = () => picks().filter((box) => box.checked);
const boxOf = (row) => row?.closest(".item")?.querySelector(".pick input");

// Without popovers (before Chrome 114, Safari 17 and Firefox 125), inbox.css shows the menu while it has content.
const hasPopovers = "popover" in HTMLElement.prototype;
const isTyping = ({ target }) => target.closest?.("textarea, select, [contenteditable], input:not([type=checkbox])");

class PickBar extends HTMLElement {
  connectedCallback() {
    this.chosen = new Set();
    this.menu = document.getElementById("menu");
    const on = (name, handle) => document.body.addEventListener(name, handle);
    document.getElementById("list").addEventListener("change", ({ target }) => target.matches(".pick input") && this.onPick(target));
    document.getElementById("list").addEventListener("click", (event) => this.onClick(event), true);
    this.addEventListener("reset", () => setTimeout(() => this.update()));
    on("htmx:configRequest", ({ detail }) => this.addContext(detail));
    // Not afterSwap: only now htmx knows the form in it.
    on("htmx:afterSettle", ({ detail }) => detail.target?.id === "menu" && this.openMenu());
    on("htmx:beforeRequest", ({ detail }) => detail.target.id === "menu" && (this.typed = ""));
    on("htmx:afterSettle", ({ target }) => target.closest?.("#list") && this.restore());
    on("htmx:afterSettle", ({ detail }) => detail.target?.id === "done" && document.activeElement === document.body && this.focusRow());
    // Before the header is replaced, so that its button gets the focus back, and htmx gives it to the new button.
    on("htmx:beforeSwap", ({ detail: { requestConfig, shouldSwap } }) => shouldSwap && this.isOpen && this.isChange(requestConfig.elt) && this.menu.hidePopover());
    on("htmx:afterRequest", ({ detail }) => this.afterRequest(detail));
    this.menu.addEventListener("click", (event) => this.onCommand(event));
    document.addEventListener("keydown", (event) => this.onKey(event));
    this.update();
  }

  // What the server must know besides: the time zone for "tomorrow, 9:00", and which conversation is open.
  addContext({ elt, path, parameters }) {
    const { chosen } = document.getElementById("list");
    if (chosen && elt.id === "commands") parameters.chosen = chosen;
    if (!path.startsWith("/inbox/changes/")) return;
    parameters.zone ??= Intl.DateTimeFormat().resolvedOptions().timeZone;
  }

  // With Shift, all rows from the last one to this one.
  onClick(event) {
    const box = event.target.closest(".pick")?.querySelector("input");
    if (box && event.target === box) this.shift = event.shiftKey;
    else if (box) this.shift = event.shiftKey;
    else if (event.shiftKey && event.target.closest(".row")) {
      event.preventDefault();
      event.stopPropagation();
      const own = boxOf(event.target);
      own.checked = true;
      this.shift = true;
      this.onPick(own);
    }
  }

  onPick(box) {
    const boxes = picks();
    const from = boxes.findIndex(({ value }) => value.split("-")[0] === this.last);
    const to = boxes.indexOf(box);
    if (this.shift && from >= 0) {
      for (const each of boxes.slice(Math.min(from, to), Math.max(from, to) + 1)) each.checked = box.checked;
    }
    this.shift = false;
    this.last = box.value.split("-")[0];
    this.update();
  }

  update() {
    const values = picked().map(({ value }) => value.split("-")[0]);
    this.chosen = new Set(values);
    const words = values.length === 1 ? this.dataset.one : this.dataset.many.replace("{n}", values.length);
    this.querySelector(".picked").textContent = values.length ? words : "";
    this.classList.toggle("has-picks", values.length > 0);
    document.getElementById("list").classList.toggle("has-picks", values.length > 0);
  }

  // The list was replaced: rows that are still there stay selected.
  restore() {
    for (const box of picks()) box.checked = this.chosen.has(box.value.split("-")[0]);
    this.update();
  }

  // What was typed before it came belongs into its field.
  openMenu() {
    const { typed } = this;
    this.typed = null;
    if (!this.menu.childElementCount || typed == null) return;
    if (hasPopovers && !this.isOpen) this.menu.showPopover();
    this.menu.querySelector("choice-menu").begin(typed);
  }

  get isOpen() {
    return hasPopovers && this.menu.matches(":popover-open");
  }

  // Whether this is a form or link of the menu, which closes it.
  isChange(elt) {
    return this.menu.contains(elt) && !elt.matches(".narrow");
  }

  closeMenu() {
    if (this.isOpen) this.menu.hidePopover();
    this.menu.replaceChildren();
  }

  // After a change, the menu closes and nothing is selected any more.
  afterRequest({ elt, successful, target }) {
    const isDone = elt.id === "picks" && target.id === "done"; // and no menu comes
    if (!successful || isDone) this.typed = null;
    if (!successful) return;
    const isMenu = this.isChange(elt);
    if (isMenu) this.closeMenu();
    if (isMenu || isDone) this.querySelector("form").reset();
  }

  // A command of the menu that is a key.
  onCommand(event) {
    const { key } = event.target.closest("[data-key]")?.dataset ?? {};
    if (!key) return;
    event.preventDefault();
    this.closeMenu();
    this.keys[key]();
  }

  // Ctrl+K works everywhere. The other keys mean nothing while somebody types, or while a menu is open.
  onKey(event) {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (this.isOpen) this.closeMenu();
      else document.getElementById("commands").click();
      return;
    }
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || this.isOpen) return;
    if (event.key === "Escape" && event.target.id === "content") return event.target.closest(".talk").querySelector(".thread").focus();
    if (isTyping(event)) return;
    if (this.typed != null) {
      if (event.key.length === 1) this.typed += event.key;
      return event.preventDefault();
    }
    if (this.dataset.letters === "off" && event.key.length === 1) return;
    const handle = this.keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!handle || (event.shiftKey && !["X", "?", "/"].includes(event.key))) return;
    this.shift = event.shiftKey;
    if (event.key !== "Escape") event.preventDefault();
    handle();
  }

  keys = {
    j: () => this.move(1),
    k: () => this.move(-1),
    x: () => this.toggle(),
    r: () => this.write("reply"),
    n: () => this.write("note"),
    a: () => this.open("assign"),
    l: () => this.open("label"),
    z: () => this.open("snooze"),
    e: () => this.close(),
    "/": () => document.getElementById("q").select(),
    "?": () => htmx.ajax("GET", this.dataset.keys, { source: this, target: this.menu }),
    Escape: () => this.chosen.size && this.querySelector("form").reset(),
  };

  // The row that has the focus, else that of the open conversation.
  get row() {
    return document.activeElement.closest(".item")?.querySelector(".row") ?? document.querySelector(".row[aria-current]");
  }

  // The button that had the focus is gone.
  focusRow() {
    const row = document.getElementById(`row-${this.last}`) ?? this.row ?? document.getElementById("list").place;
    (row?.offsetParent ? row : document.querySelector("#conversation h2"))?.focus({ preventScroll: true });
  }

  move(step) {
    const rows = [...document.querySelectorAll("#list .row")];
    const at = rows.indexOf(this.row);
    const next = rows[at < 0 ? 0 : at + step];
    if (next) document.getElementById("list").focusRow(next);
  }

  // Focus the field for a reply or a note, after the other one is gone.
  write(mode) {
    const link = document.getElementById(mode);
    const focus = () => document.getElementById("content")?.focus();
    if (!link || link.hasAttribute("aria-current")) return focus();
    const settled = ({ target }) => {
      if (target.id !== "writing") return;
      document.body.removeEventListener("htmx:afterSettle", settled);
      focus();
    };
    document.body.addEventListener("htmx:afterSettle", settled);
    link.click();
  }

  toggle() {
    const box = boxOf(this.row);
    if (!box) return;
    box.checked = !box.checked;
    this.onPick(box);
  }

  // For the selected rows, else for the open conversation, else for the row that has the focus.
  open(menu) {
    const button = this.querySelector(`[name=menu][value=${menu}]`);
    const link = document.getElementById(`menu-${menu}`);
    if (this.chosen.size || !link) this.forRows(button);
    else link.click();
  }

  close() {
    const button = this.querySelector("[name=status]");
    const own = document.getElementById("close");
    if (this.chosen.size || !own) this.forRows(button);
    else own.click();
  }

  forRows(button) {
    if (!this.chosen.size && this.row) this.toggle();
    if (this.chosen.size) button.click();
  }
}

customElements.define("pick-bar", PickBar);
