// <chat-composer> sends what is typed, once, in order, however often the line breaks: every message has a name of its
// own from before its first try (client_id), waits in the tab's storage until the server has it, and is tried again.
// Files, and words for what goes wrong, are in chat-seldom.js: it comes when there is a file, or something has gone wrong.
const TIMEOUT = 15000; // milliseconds until a try counts as failed
const LONGEST = 20000; // milliseconds between two tries, at most
const SLOWEST = 10; // bytes in a millisecond, of a line that is waited for
const KEPT_ALIVE = 60000; // bytes; browsers refuse more than 64 kB

const store = {
  get(key, otherwise) {
    try {
      return JSON.parse(sessionStorage.getItem(key)) ?? otherwise;
    } catch {
      return otherwise; // no storage in this browser: then it lasts as long as the page
    }
  },
  set(key, value) {
    try {
      sessionStorage.setItem(key, JSON.stringify(value));
    } catch {
      // the same
    }
  },
};

// The address of an object ends with a uuid of its own. crypto.randomUUID exists on secure pages alone.
function newName() {
  const address = URL.createObjectURL(new Blob());
  URL.revokeObjectURL(address);
  return address.slice(-36);
}

// Two tabs that begin at the same moment must not begin two conversations: the second one waits for what the first is given.
const alone = (name, deed) =>
  navigator.locks
    ? navigator.locks.request(name, deed).catch((error) => {
        if (error.name === "SecurityError") return deed(); // a browser that keeps nothing has no locks either
        throw error;
      })
    : deed();

// Files that are not sent yet: those of a message by its name, those that wait for their message by the draft's. They are
// here and in no storage, so that they outlast another conversation being opened, and not the page.
const held = new Map();

let module; // chat-seldom.js, once it has come

class ChatComposer extends HTMLElement {
  connectedCallback() {
    this.form = this.querySelector("form");
    this.words = this.form.dataset;
    this.field = this.querySelector("textarea");
    this.problem = this.querySelector(".problem");
    this.picker = this.querySelector("[type=file]");
    this.waiting = document.querySelector(".messages.waiting");
    this.draft = `draft ${this.dataset.draft}`;
    this.outbox = `outbox ${this.dataset.draft}`;
    this.items = [];
    this.tries = 0;

    this.field.value ||= store.get(this.draft, "");
    this.measure();
    this.form.querySelectorAll(".who input").forEach((input) => this.keep(input));
    this.field.addEventListener("input", () => this.typed());
    this.field.addEventListener("keydown", (event) => this.key(event));
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.gone = new AbortController();
    document.addEventListener("messages-shown", (event) => this.settle(event.detail), this.gone);
    document.addEventListener("connected", () => this.flush(), this.gone);
    addEventListener("online", () => this.flush(), this.gone);
    const unsent = () => held.size || this.items.some((item) => item.failed);
    // A page around the chat is left as its own scripts and people will.
    addEventListener("beforeunload", (event) => window === top && unsent() && event.preventDefault(), this.gone);

    this.takeFiles();
    for (const { name, text, files } of this.kept) {
      const item = this.add(name, text);
      item.refused = files > 0 && !held.has(name);
    }
    this.settle(document.querySelector("message-list").rows);
    this.flush();
    // Ready to type, but without a keyboard jumping up on a phone, and never by taking the focus from a host's page.
    if (matchMedia("(pointer: fine)").matches && window === top) this.field.focus({ preventScroll: true });
  }

  // Another conversation was opened. What waits to be sent in this one is sent all the same.
  disconnectedCallback() {
    this.gone.abort();
  }

  // Who they are is not asked twice, should the page be loaded anew before the first message.
  keep(input) {
    input.value ||= store.get(`${input.name} ${this.draft}`, "");
    input.addEventListener("input", () => store.set(`${input.name} ${this.draft}`, input.value));
  }

  typed() {
    this.problem.hidden = true;
    this.measure();
    store.set(this.draft, this.field.value);
  }

  measure() {
    this.field.style.height = "auto";
    const { scrollHeight, offsetHeight, clientHeight } = this.field;
    this.field.style.height = `${scrollHeight + offsetHeight - clientHeight}px`; // with its borders
    const most = Number(this.field.dataset.most);
    this.tooLong = this.field.value.length > most && [...this.field.value].length > most; // counted as the server does
    if (this.tooLong) this.seldom("tooLong", most);
  }

  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return; // 229: Safari composes
    event.preventDefault();
    this.form.requestSubmit();
  }

  // Files are chosen, pasted or dropped, anywhere on the page: of one that nobody takes the browser makes a page.
  takeFiles() {
    const attach = ([...files]) => this.seldom("attach", files); // another list: theirs is the browser's, and soon empty
    this.picker?.addEventListener("change", () => (attach(this.picker.files), (this.picker.value = "")));
    const place = this.parentElement;
    const bring = (event) => {
      const { types, files } = event.dataTransfer ?? event.clipboardData;
      if (!types.includes("Files") || event.clipboardData?.getData("text")) return; // of a text with a picture of it, the text
      event.preventDefault();
      if (!this.picker) return;
      place.classList.toggle("dropping", event.type === "dragover");
      if (event.type === "paste" || event.type === "drop") attach(files);
    };
    for (const kind of ["paste", "dragover", "dragleave", "drop"]) document.addEventListener(kind, bring, this.gone);
    this.files = this.files; // what was chosen before another conversation was opened
  }

  // Something that is in chat-seldom.js.
  async seldom(deed, ...details) {
    try {
      module = await import(this.dataset.module);
    } catch {
      this.dataset.module += "?"; // another name: older browsers remember that there was nothing under this one
      return this.complain(this.words.offline);
    }
    return module[deed](this, ...details);
  }

  get files() {
    return held.get(this.draft) ?? [];
  }

  set files(files) {
    if (files.length) held.set(this.draft, files);
    else held.delete(this.draft);
    module?.show(this, this.form.querySelector(".files"), files, true);
  }

  complain(sentence) {
    this.problem.hidden = false;
    this.problem.textContent = sentence;
  }

  submit(event) {
    event.preventDefault();
    const { files } = this;
    const text = this.field.value.trim() && this.field.value;
    this.field.focus();
    if ((!text && !files.length) || this.tooLong) return;
    const missing = this.form.querySelector(".who [required]:invalid");
    if (missing) return (missing.closest("details").open = true), missing.reportValidity();
    const name = newName();
    store.set(this.outbox, [...this.kept, { name, text, files: files.length }]);
    if (files.length) {
      held.set(name, files);
      this.files = [];
    }
    this.add(name, text);
    this.field.value = "";
    this.typed();
    document.querySelector("message-list").toEnd();
    this.flush();
  }

  // A message that the server does not have yet, or whose row has not come back yet.
  add(name, text) {
    const row = this.querySelector("template").content.firstElementChild.cloneNode(true);
    Object.assign(row.querySelector(".bubble"), { textContent: text, hidden: !text });
    const files = held.get(name) ?? [];
    module?.show(this, row.querySelector(".files"), files);
    const before = this.waiting.lastElementChild || document.querySelector("#messages > :last-child");
    row.classList.toggle("starts-group", !before?.matches(".mine"));
    const item = { name, text, files, row, refused: false };
    row.querySelector("button").addEventListener("click", () => this.again(item));
    this.say(item, this.words.sending);
    this.waiting.append(row);
    this.items.push(item);
    return item;
  }

  // What is not sent yet, as a reload would find it.
  get kept() {
    return store.get(this.outbox, []);
  }

  forget(name) {
    held.delete(name);
    store.set(this.outbox, this.kept.filter((item) => item.name !== name));
  }

  // One after the other, so that they arrive in the order in which they were written.
  async flush() {
    clearTimeout(this.timer);
    for (const item of this.items) if (item.refused && !item.failed) this.seldom("lose", item);
    const item = this.items.find((item) => !item.id && !item.refused);
    if (!item || this.busy) return;
    this.busy = true;
    const wait = await this.send(item);
    this.busy = false;
    if (wait === null) return this.flush();
    this.timer = setTimeout(() => this.flush(), wait);
  }

  // Milliseconds until the next try, or null if there is nothing more to do for this one.
  async send(item) {
    const form = new FormData(this.form);
    form.delete("files");
    const body = item.files.length ? form : new URLSearchParams(form);
    item.files.forEach((file) => body.append("files", file));
    body.set("content", item.text);
    body.set("client_id", item.name);
    body.set("state", document.querySelector("#shown-state")?.value ?? ""); // whose messages it was written below
    body.set("zone", Intl.DateTimeFormat().resolvedOptions().timeZone);
    let response;
    try {
      const keeper = document.querySelector("chat-keeper");
      await keeper?.ready; // customers' pages have one: who we are is known from then on
      const post = (more) => this.post(item, body, { ...keeper?.headers, ...more });
      if (keeper?.isNew) response = await alone(this.form.action, () => this.first(keeper, post));
      else response = await post();
      if (!item.abandoned) await keeper?.takeSecret(response);
      if (response.headers.get("X-Another")) await keeper.reload("conversationChanged"); // what we write below is not ours any more
    } catch {
      if (!item.abandoned) return this.later(item);
    }
    if (item.abandoned) return null;
    const id = Number(response.headers.get("X-Message"));
    if (id) return this.sent(item, id, form.get("email"));
    if (response.status === 429) return this.later(item, Number(response.headers.get("Retry-After")) || 0);
    if (response.ok || response.status >= 500) return this.later(item); // ok, but not ours: somebody stands between us
    return (await this.seldom("refuse", item, response)) ? null : this.later(item);
  }

  async first(keeper, post) {
    await keeper.recallSecret();
    return keeper.isNew ? keeper.obtainSecret(post) : post();
  }

  post({ files, abandoned }, body, more) {
    if (abandoned) throw new Error("abandoned");
    const trying = (this.trying = new AbortController());
    setTimeout(() => trying.abort(), files.reduce((time, file) => time + file.size / SLOWEST, TIMEOUT));
    const keepalive = !files.length && `${body}`.length < KEPT_ALIVE; // it is sent even if the page is left at this moment
    const headers = { "HX-Request": "true", ...more };
    return fetch(this.form.action, { method: "POST", body, headers, signal: trying.signal, keepalive });
  }

  sent(item, id, email) {
    this.tries = 0;
    item.id = id;
    this.say(item, this.words.sent);
    this.forget(item.name);
    document.querySelector("chat-keeper")?.begin();
    // Who they are is asked once, and while nobody is there until there is an e-mail address.
    if (email || !document.querySelector(".away")) this.form.querySelector(".who")?.remove();
    document.body.dispatchEvent(new CustomEvent("messages"));
    if (this.isConnected) this.settle();
    return null;
  }

  // `seconds` is how long the server wants us to wait, if it said so.
  later(item, seconds = 0) {
    const backOff = Math.min(LONGEST, 500 * 2 ** this.tries++) * (0.5 + Math.random() / 2);
    this.say(item, this.words.retrying, true);
    if (seconds) this.seldom("tooMany", item, seconds);
    return Math.max(1000 * seconds, backOff);
  }

  say(item, fate, failed = false) {
    item.failed = failed;
    item.row.querySelector(".fate").textContent = fate;
    item.row.classList.toggle("unsent", item.refused);
    item.row.classList.toggle("retrying", failed && !item.refused);
    item.row.querySelector("button").hidden = !failed;
  }

  again(item) {
    item.refused = false;
    this.say(item, this.words.sending);
    this.field.focus();
    this.flush();
  }

  // What has come, with these rows or before, need not wait any more.
  settle(rows = []) {
    const { last } = document.querySelector("message-list");
    const clientIds = rows.map((row) => row.dataset.clientId);
    for (const item of this.items) if (item.id <= last || clientIds.includes(item.name)) this.drop(item);
  }

  // Somebody else writes from now on.
  abandon() {
    this.items.forEach((item) => (this.drop(item), (item.abandoned = true)));
    this.trying?.abort();
    for (const name of ["name", "email"]) {
      store.set(`${name} ${this.draft}`, "");
      if (this.form.elements[name]) this.form.elements[name].value = "";
    }
    this.field.value = "";
    this.files = [];
    this.typed();
  }

  drop(item) {
    item.row.remove();
    this.items = this.items.filter((other) => other !== item);
    this.forget(item.name);
  }
}

customElements.define("chat-composer", ChatComposer);
