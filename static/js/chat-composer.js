// <chat-composer> sends messages exactly once and in order over unreliable connections: each gets a client_id before its first
// attempt, is kept in the tab's sessionStorage until the server has acknowledged it, and is retried. The code for files and
// error messages is in chat-seldom.js, which is loaded with the first file or error.
const TIMEOUT = 15000; // milliseconds until an attempt times out
const MAX_DELAY = 20000; // milliseconds between two attempts
const MIN_SPEED = 10; // bytes per millisecond, the slowest upload that does not time out; retries get up to four times as long
const MAX_KEEPALIVE = 50000; // bytes; browsers refuse more than 64 kB, with all fields
const MAX_ENCODED = 3; // bytes of a form for each byte of text: %E3

const store = {
  get(key, otherwise) {
    try {
      return JSON.parse(sessionStorage.getItem(key)) ?? otherwise;
    } catch {
      return otherwise; // this browser has no storage
    }
  },
  set(key, value) {
    try {
      sessionStorage.setItem(key, JSON.stringify(value));
    } catch {
      // this browser has no storage
    }
  },
};

// The URL of a blob ends with a random uuid. crypto.randomUUID exists only in secure contexts.
function randomUuid() {
  const address = URL.createObjectURL(new Blob());
  URL.revokeObjectURL(address);
  return address.slice(-36);
}

// Two tabs that send their first message at once must not begin two conversations: the second one waits for the first.
const withLock = (name, action) =>
  navigator.locks
    ? navigator.locks.request(name, action).catch((error) => {
        if (error.name === "SecurityError") return action(); // browsers that block all cookies allow no locks either
        throw error;
      })
    : action();

// Files that are not sent yet: those of a message by its client_id, those of the draft by its key. They are in memory only:
// they survive opening another conversation, but not reloading the page.
const unsentFiles = new Map();

let module; // chat-seldom.js, once it is loaded

class ChatComposer extends HTMLElement {
  connectedCallback() {
    this.form = this.querySelector("form");
    this.texts = this.form.dataset;
    this.field = this.querySelector("textarea");
    this.problem = this.querySelector(".problem");
    this.picker = this.querySelector("[type=file]");
    this.waiting = document.querySelector(".messages.waiting");
    this.bell = document.querySelector("door-bell");
    this.draft = `draft ${this.dataset.draft}`;
    this.outbox = `outbox ${this.dataset.draft}`;
    this.items = [];
    this.tries = 0;

    this.field.value ||= store.get(this.draft, "");
    this.resize();
    this.form.querySelectorAll(".who input").forEach((input) => this.storeInput(input));
    this.field.addEventListener("input", () => this.onInput());
    this.field.addEventListener("keydown", (event) => this.onKey(event));
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.disconnected = new AbortController();
    document.addEventListener("messages-shown", (event) => this.removeArrived(event.detail), this.disconnected);
    document.body.addEventListener("htmx:afterRequest", ({ detail }) => this.afterLook(detail), this.disconnected);
    addEventListener("online", () => this.flush(), this.disconnected);
    const unsent = () => unsentFiles.size || this.items.some((item) => item.failed);
    // In a frame, leave this to the page around the chat.
    addEventListener("beforeunload", (event) => window === top && unsent() && event.preventDefault(), this.disconnected);

    this.listenForFiles();
    for (const { name, text, files } of this.stored) {
      const item = this.addPending(name, text);
      item.refused = files > 0 && !unsentFiles.has(name);
    }
    this.removeArrived(document.querySelector("message-list").rows);
    this.flush();
    // Focus the field, but do not open the keyboard of a phone, or take the focus from the page around the chat.
    if (matchMedia("(pointer: fine)").matches && window === top) this.field.focus({ preventScroll: true });
  }

  // Another conversation was opened. Unsent messages of this one are still sent.
  disconnectedCallback() {
    this.disconnected.abort();
  }

  // Name and e-mail survive a reload before the first message.
  storeInput(input) {
    input.value ||= store.get(`${input.name} ${this.draft}`, "");
    input.addEventListener("input", () => store.set(`${input.name} ${this.draft}`, input.value));
  }

  onInput() {
    this.problem.hidden = true;
    this.resize();
    store.set(this.draft, this.field.value);
  }

  resize() {
    this.field.style.height = "auto";
    const { scrollHeight, offsetHeight, clientHeight } = this.field;
    this.field.style.height = `${scrollHeight + offsetHeight - clientHeight}px`; // with its borders
    const most = Number(this.field.dataset.most);
    this.tooLong = this.field.value.length > most && [...this.field.value].length > most; // counted as the server does
    if (this.tooLong) this.lazy("warnTooLong", most);
  }

  onKey(event) {
    if (event.key !== "Enter" || event.shiftKey) return;
    this.submit(event); // not form.requestSubmit(), which Safari has since 16
  }

  // Files are chosen, pasted or dropped anywhere on the page. The browser would open a file that is not handled.
  listenForFiles() {
    const attach = ([...files], text) => this.lazy("attach", files, text); // copied, because the browser empties its list
    this.picker?.addEventListener("change", () => (attach(this.picker.files), (this.picker.value = "")));
    const place = this.parentElement;
    const bring = (event) => {
      const { dataTransfer, clipboardData } = event;
      const { types, files } = dataTransfer ?? clipboardData;
      const text = clipboardData?.getData("text");
      // Office programs copy text with a picture of it: paste the text. File managers copy a file with its name.
      if (!types.includes("Files") || (text && (types.includes("text/html") || !this.picker))) return;
      event.preventDefault();
      if (!this.picker) return;
      place.classList.toggle("dropping", event.type === "dragover");
      if (!event.type.startsWith("drag")) attach(files, text);
    };
    for (const kind of ["paste", "dragover", "dragleave", "drop"]) document.addEventListener(kind, bring, this.disconnected);
    this.files = this.files; // chosen before another conversation was opened
  }

  // Call a function of chat-seldom.js.
  async lazy(name, ...details) {
    try {
      module = await import(this.dataset.module);
    } catch {
      this.dataset.module += "?"; // another URL: older browsers remember a failed import
      return this.showProblem(this.texts.offline);
    }
    return module[name](this, ...details);
  }

  get files() {
    return unsentFiles.get(this.draft) ?? [];
  }

  set files(files) {
    if (files.length) unsentFiles.set(this.draft, files);
    else unsentFiles.delete(this.draft);
    module?.showFiles(this, this.form.querySelector(".files"), files, true);
  }

  showProblem(text) {
    this.problem.hidden = false;
    this.problem.textContent = text;
  }

  submit(event) {
    event.preventDefault();
    const { files } = this;
    const text = this.field.value.trim() && this.field.value;
    this.field.focus();
    if ((!text && !files.length) || this.tooLong) return;
    const missing = this.form.querySelector(".who [required]:invalid");
    if (missing) return (missing.closest("details").open = true), missing.reportValidity();
    const name = randomUuid();
    store.set(this.outbox, [...this.stored, { name, text, files: files.length }]);
    if (files.length) {
      unsentFiles.set(name, files);
      this.files = [];
    }
    this.addPending(name, text);
    this.field.value = "";
    this.onInput();
    this.flush();
    document.querySelector("message-list").toEnd();
  }

  // Show a message that is not in the list yet.
  addPending(name, text) {
    const row = this.querySelector("template").content.firstElementChild.cloneNode(true);
    Object.assign(row.querySelector(".bubble"), { textContent: text, hidden: !text });
    const files = unsentFiles.get(name) ?? [];
    module?.showFiles(this, row.querySelector(".files"), files);
    const before = this.waiting.lastElementChild || document.querySelector("#messages > :last-child");
    row.classList.toggle("starts-group", !before?.matches(".mine"));
    const item = { name, text, files, row, refused: false };
    row.querySelector("button").addEventListener("click", () => this.retry(item));
    this.setStatus(item, this.texts.sending);
    this.waiting.append(row);
    this.items.push(item);
    return item;
  }

  // The unsent messages in the tab's storage.
  get stored() {
    return store.get(this.outbox, []);
  }

  unstore(name) {
    unsentFiles.delete(name);
    store.set(this.outbox, this.stored.filter((item) => item.name !== name));
  }

  // Send one after the other, so that they arrive in order.
  async flush() {
    clearTimeout(this.timer);
    for (const item of this.items) if (item.refused && !item.failed) this.lazy("markFilesLost", item);
    const item = this.items.find((item) => !item.id && !item.refused);
    if (!item || this.busy) return;
    this.busy = true;
    const wait = await this.send(item);
    this.busy = false;
    if (wait === null) return this.flush();
    this.timer = setTimeout(() => this.flush(), wait);
  }

  // Returns the milliseconds until the next attempt, or null if there is none.
  async send(item) {
    const form = new FormData(this.form);
    form.delete("files");
    const size = item.files.reduce((sum, file) => sum + file.size, MAX_ENCODED * new Blob([item.text]).size);
    const keepalive = size < MAX_KEEPALIVE; // the browser sends it even if the page is closed meanwhile
    const body = keepalive && !item.files.length ? new URLSearchParams(form) : form; // multipart does not percent-encode the text
    item.files.forEach((file) => body.append("files", file));
    body.set("content", item.text);
    body.set("client_id", item.name);
    body.set("state", document.querySelector("#shown-state")?.value ?? ""); // the conversation that the text was written in
    body.set("zone", Intl.DateTimeFormat().resolvedOptions().timeZone);
    let response;
    try {
      const keeper = document.querySelector("chat-keeper");
      await keeper?.ready; // on customers' pages: until the customer is known
      const post = (more) => this.post(item, { body, keepalive, headers: { "HX-Request": "true", ...keeper?.headers, ...more } }, size);
      if (keeper?.isNew) response = await withLock(this.form.action, () => this.sendFirst(keeper, post));
      else response = await post();
      if (!item.abandoned) await keeper?.takeSecret?.(response);
      if (response.headers.get("X-Another")) await keeper.reload("conversationChanged"); // this browser has another conversation now
    } catch ({ name }) {
      if (!item.abandoned) return this.bell.fail?.(name === "AbortError"), this.retryLater(item);
    }
    if (item.abandoned) return null;
    const id = Number(response.headers.get("X-Message"));
    if (id) return this.onSent(item, id, form.get("email"));
    const { ok, status } = response;
    // A 200 response without X-Message is from a captive portal. 507 (disk full) is not retried: the disk stays full for a while.
    if (ok || status === 429 || (status >= 500 && status !== 507)) return this.retryLater(item, response);
    return (await this.lazy("markRefused", item, response)) ? null : this.retryLater(item);
  }

  async sendFirst(keeper, post) {
    await keeper.recallSecret();
    return keeper.isNew ? keeper.obtainSecret(post) : post();
  }

  post({ abandoned }, options, size) {
    if (abandoned) throw new Error("abandoned");
    const trying = (this.trying = new AbortController());
    setTimeout(() => trying.abort(), TIMEOUT + (size / MIN_SPEED) * Math.min(4, 1 + this.tries));
    return fetch(this.form.action, { method: "POST", signal: trying.signal, ...options });
  }

  onSent(item, id, email) {
    this.tries = 0;
    item.id = id;
    this.setStatus(item, this.texts.sent);
    this.unstore(item.name);
    document.querySelector("chat-keeper")?.begin?.();
    // Ask for name and e-mail once; outside the office hours until there is an e-mail address.
    if (email || !document.querySelector(".away")) this.form.querySelector(".who")?.remove();
    document.body.dispatchEvent(new CustomEvent("messages"));
    return null;
  }

  // Wait until a poll succeeds, at most for the back-off; or exactly as long as Retry-After says.
  retryLater(item, response) {
    const seconds = Number(response?.headers.get("Retry-After")) || 0;
    const backOff = Math.min(MAX_DELAY, 500 * 2 ** this.tries++) * (0.5 + Math.random() / 2);
    this.paused = seconds;
    this.setStatus(item, this.texts.retrying, true);
    if (!seconds) this.bell.hurry?.();
    else if (response.status === 429) this.lazy("showRateLimit", item, seconds);
    return 1000 * seconds || backOff;
  }

  // A poll succeeded, so the server can be reached again: retry now, unless it has sent Retry-After.
  afterLook({ elt, successful }) {
    if (successful && elt.id === "messages" && this.tries && !this.paused) this.flush();
  }

  setStatus(item, text, failed = false) {
    item.failed = failed;
    item.row.querySelector(".delivery").textContent = text;
    item.row.classList.toggle("unsent", item.refused);
    item.row.classList.toggle("retrying", failed && !item.refused);
    item.row.querySelector("button").hidden = !failed;
  }

  retry(item) {
    item.refused = false;
    this.setStatus(item, this.texts.sending);
    this.field.focus();
    this.flush();
  }

  // Remove the pending messages that the server's list contains now.
  removeArrived(rows) {
    const clientIds = rows.map((row) => row.dataset.clientId);
    for (const item of this.items) if (clientIds.includes(item.name)) this.removePending(item);
  }

  // The page now belongs to another customer: discard the draft and all unsent messages.
  abandon() {
    this.items.forEach((item) => (this.removePending(item), (item.abandoned = true)));
    this.trying?.abort();
    for (const name of ["name", "email"]) {
      store.set(`${name} ${this.draft}`, "");
      if (this.form.elements[name]) this.form.elements[name].value = "";
    }
    this.field.value = "";
    this.files = [];
    this.onInput();
  }

  removePending(item) {
    item.row.remove();
    this.items = this.items.filter((other) => other !== item);
    this.unstore(item.name);
  }
}

customElements.define("chat-composer", ChatComposer);
