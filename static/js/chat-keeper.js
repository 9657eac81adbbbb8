// <chat-keeper> knows who keeps what makes this browser the customer: a cookie that no script sees, the page around the
// chat, this frame's own storage or, where nothing is kept at all, this page for as long as it is open. It is the only one
// that speaks with the page around the chat (loader.js): over a port, whose other end is in a page of exactly data-host.
const PATIENCE = 3000; // milliseconds to wait for the page around the chat to say what it keeps
const LONGEST = 5000; // characters of a proof, more than the server looks at

class ChatKeeper extends HTMLElement {
  connectedCallback() {
    this.headers = {}; // what every request of this page brings along
    this.open = !this.dataset.host;
    this.seen = 0;
    this.ready = new Promise((ready) => (this.settled = ready)); // nothing is sent before we know who we are
    document.body.addEventListener("htmx:configRequest", ({ detail }) => Object.assign(detail.headers, this.headers));
    document.addEventListener("messages-shown", () => this.count());
    document.addEventListener("visibilitychange", () => this.count());
    document.body.addEventListener("htmx:afterSwap", () => this.showPictures());
    document.addEventListener("click", (event) => this.openFile(event));
    document.addEventListener("keydown", ({ key }) => key === "Escape" && this.tell({ close: true }));
    document.addEventListener("submit", (event) => this.submit(event));
    document.querySelector("[data-do=close]").addEventListener("click", () => this.tell({ close: true }));
    const offer = this.querySelector("[data-do=window]");
    offer.hidden = window === top;
    offer.addEventListener("click", () => this.openWindow());
    document.body.addEventListener("stranger", () => this.isNew || this.lose());
    addEventListener("message", (event) => this.greet(event));
    this.start();
  }

  async start() {
    const [, code] = location.hash.match(/^#code=(.+)/) || [];
    if (code) history.replaceState(null, "", location.pathname + location.search);
    const waits = this.isNew && this.dataset.host && window !== parent; // for the page around us to say what it keeps
    if (waits) setTimeout(this.settled, PATIENCE);
    try {
      // A code that another page leads here with is none of ours: it would make us somebody else.
      if (code && this.isNew && document.referrer.startsWith(`${location.origin}/`)) await this.enter(code);
      else if (this.isNew && this.stored()) await this.recall(this.stored());
    } finally {
      if (!waits || !this.isNew) this.settled();
    }
  }

  async enter(code) {
    const body = new URLSearchParams({ code, window: String(Math.random()) });
    const response = await this.settle((more) => this.post("enter", body, more)).catch(() => null);
    if (response?.ok) await this.refresh();
    else if (response) this.say(await response.text());
  }

  // Whether there is no conversation yet.
  get isNew() {
    return "waits" in this.dataset;
  }

  address(name) {
    return this.dataset.keep.replace(/known\/(?=\?|$)/, `${name}/`);
  }

  post(name, body, more) {
    return fetch(this.address(name), { method: "POST", body, headers: { ...this.headers, ...more, "HX-Request": "true" } });
  }

  // Ask for what makes us the customer. If the cookie that comes with it does not come back, ask once more, for the secret.
  async settle(ask) {
    let response = await ask({});
    if (response.ok && !this.headers["X-Chat"] && response.headers.get("X-Secret") !== "") {
      if (await this.known()) this.tell({ known: true });
      else response = await ask({ "X-Keep": "yes" });
    }
    await this.take(response);
    return response;
  }

  // Whatever answers may bring another secret, or say that ours is worth nothing.
  async take(response) {
    const secret = response.headers.get("X-Secret");
    if (secret) await this.keep(secret);
    else if (secret === "") this.forget();
  }

  async known() {
    const response = await fetch(this.address("known"), { signal: AbortSignal.timeout?.(5 * PATIENCE) });
    return response.headers.get("X-Known") === "yes";
  }

  async keep(secret) {
    if (secret === this.headers["X-Chat"]) return;
    this.headers["X-Chat"] = secret;
    const isKept = await this.ask({ keep: secret });
    this.store(isKept ? "" : secret);
    this.querySelector(".forgetful").hidden = isKept || this.stored() === secret;
    if (!isKept) this.tell({ known: true });
  }

  async recall(secret) {
    this.headers["X-Chat"] = secret;
    const isSure = await this.refresh().catch(() => false);
    if (isSure && this.isNew) this.forget(); // it holds no longer
  }

  // Another tab may have begun meanwhile, and the page around us or this browser may keep what it was given.
  async catchUp() {
    const kept = !this.headers["X-Chat"] && (this.stored() || (await this.ask({ recall: true })));
    if (typeof kept === "string") await this.recall(kept);
  }

  // What we hold is worth nothing any more: this customer has left elsewhere, or come back with another secret.
  async lose() {
    this.begin(false);
    const proof = this.headers["X-Identity"];
    if (proof) await this.identify(proof);
    else this.forget(), await this.refresh();
  }

  forget() {
    const was = this.headers["X-Chat"];
    delete this.headers["X-Chat"];
    if (this.stored() === was) this.store("");
    this.tell({ keep: "", was });
  }

  // Whoever uses this tab from now on is somebody else: what was being written, or is still to be sent, is not theirs.
  async wipe() {
    const chat = this.headers["X-Chat"] || this.stored();
    delete this.headers["X-Identity"];
    this.store("");
    try {
      sessionStorage.clear();
    } catch {
      // nothing was kept
    }
    document.querySelector("chat-composer")?.abandon();
    if (chat) await fetch(this.address("forget"), { method: "POST", body: JSON.stringify({ chat }) }).catch(() => null);
  }

  get place() {
    return `chat ${location.pathname} ${this.dataset.host || ""}`;
  }

  store(secret) {
    try {
      if (secret) localStorage.setItem(this.place, secret);
      else localStorage.removeItem(this.place);
    } catch {
      // this browser keeps nothing here
    }
  }

  stored() {
    try {
      return localStorage.getItem(this.place);
    } catch {
      return null;
    }
  }

  // The protocols with which the doorbell's socket shows the secret: it can send no header of ours.
  get protocols() {
    return this.headers["X-Chat"] ? ["chat", this.headers["X-Chat"]] : [];
  }

  // The page again, as who we are now. What is being written stays.
  async refresh() {
    const response = await fetch(location.href, { headers: this.headers });
    if (!response.ok) return false;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const id of ["messages", "state", "earlier"]) {
      const part = document.getElementById(id);
      part.replaceChildren(...page.getElementById(id).childNodes);
      [...part.children].forEach((child) => htmx.process(child)); // never the list itself, which may be asking right now
    }
    this.showPictures();
    document.querySelector("message-list").renew();
    const is = !("waits" in page.querySelector("chat-keeper").dataset);
    this.begin(is);
    if (is) document.querySelector("door-bell").listenAnew();
    this.count();
    return true;
  }

  // A picture and a link send no header, and a new window not even the cookie of a chat that stands in a page: then we
  // fetch what they lead to.
  showPictures() {
    if (!this.headers["X-Chat"]) return;
    document.querySelectorAll("#messages img[src]:not([src^=blob])").forEach((picture) => this.bring(picture, "src"));
  }

  async openFile(event) {
    const link = event.target.closest(".files a[href]:not([href^=blob])");
    if (!link || !(this.headers["X-Chat"] || this.dataset.host)) return;
    event.preventDefault();
    if (await this.bring(link, "href")) link.click();
  }

  async bring(element, attribute) {
    const address = element[attribute];
    element.removeAttribute(attribute); // nothing is asked for without us
    const response = await fetch(address, { headers: this.headers }).catch(() => null);
    element[attribute] = response?.ok ? URL.createObjectURL(await response.blob()) : address;
    return response?.ok;
  }

  // There is a conversation from now on, or there is none any more.
  begin(is = true) {
    this.toggleAttribute("data-waits", !is);
    if (!is) return;
    document.querySelector(".who")?.remove();
    document.dispatchEvent(new CustomEvent("conversation-began"));
  }

  say(sentence) {
    const line = this.querySelector(".said");
    line.textContent = sentence;
    line.hidden = !sentence;
  }

  // The website's own server says who the customer is.
  async identify(proof) {
    this.proof = proof;
    this.headers["X-Identity"] = encodeURI(proof.replace(/\p{Surrogate}/gu, "")).slice(0, LONGEST); // headers take only ASCII
    const response = await this.settle((more) => this.post("identify", null, more)).catch(() => null);
    if (!response || response.status === 429 || response.status >= 500) {
      setTimeout(() => this.proof === proof && this.identify(proof), 5 * PATIENCE);
      return;
    }
    if (response.headers.get("X-Another")) document.querySelector("chat-composer")?.abandon();
    if (!response.ok) {
      delete this.headers["X-Identity"];
      return this.tell({ event: "refused", detail: await response.text() });
    }
    this.querySelector(".sign-in")?.remove();
    document.querySelector(".who")?.remove();
    await this.refresh();
    this.tell({ event: "identified" });
  }

  // Forms that make us the customer of another conversation, where no cookie does it.
  async submit(event) {
    const form = event.target;
    if (!form.matches("[data-settles]") || !this.headers["X-Chat"]) return;
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form, event.submitter));
    const response = await fetch(form.action, { method: "POST", body, headers: this.headers });
    const secret = response.headers.get("X-Secret");
    if (secret) await this.keep(secret);
    await this.refresh();
  }

  // A window of our own, which may remember what this frame may not. The code holds once, and for a minute.
  async openWindow() {
    const view = open("about:blank"); // now, while the click counts
    const response = await this.post("code", null).catch(() => null);
    if (!view) return;
    if (response?.ok) view.location = new URL(`${this.dataset.alone}#code=${await response.text()}`, location.href);
    else view.close();
  }

  // The page around the chat has something to say: only its own window, of exactly the origin we were told, may.
  greet({ source, origin, data, ports }) {
    if (source !== parent || origin !== this.dataset.host || data !== "chatsite" || !ports[0]) return;
    this.port = ports[0];
    this.port.onmessage = ({ data }) => this.heard(data);
    document.body.classList.add("in-a-panel");
    this.tell({ ready: true });
  }

  async heard(said) {
    if (typeof said !== "object" || said === null) return;
    if ("answer" in said) this.answered?.(said.answer);
    if (said.gone) await this.wipe(), this.tell({ gone: true });
    if (Number.isSafeInteger(said.seen)) this.seen = said.seen;
    if (typeof said.open === "boolean") this.show(said.open, said.focus);
    if (said.hello) {
      if (said.fresh) await this.wipe();
      if (this.isNew && typeof said.chat === "string" && said.chat.length < 64) await this.recall(said.chat);
      if (typeof said.proof === "string") await this.identify(said.proof);
      this.settled();
      this.count();
    } else if (typeof said.proof === "string") this.identify(said.proof);
  }

  // The focus may reach this frame a moment after the word that it is ours, and would be with nothing in it.
  show(open, focus) {
    this.open = open;
    if (focus && matchMedia("(pointer: fine)").matches) {
      const take = () => this.open && document.querySelector("#content")?.focus({ preventScroll: true });
      take();
      if (!document.hasFocus()) addEventListener("focus", take, { once: true });
      // Safari gives it to nothing in a frame where nobody has done anything yet. Then the first key does.
      const typed = ({ key }) => key !== "Tab" && document.activeElement === document.body && take();
      addEventListener("keydown", typed, { once: true });
    }
    this.count();
  }

  tell(word) {
    this.port?.postMessage(word);
  }

  // Tell the page around the chat, and whether it did what it was told.
  ask(word) {
    if (!this.port) return false;
    return new Promise((answered) => {
      this.answered = answered;
      this.tell(word);
      setTimeout(() => answered(false), PATIENCE);
    });
  }

  // How many messages wait to be seen, for the bubble.
  count() {
    const ids = [...document.querySelectorAll("#messages > .theirs")].map((row) => Number(row.dataset.id));
    if (this.open && !document.hidden) {
      this.seen = Math.max(this.seen, ...ids);
      this.tell({ seen: this.seen });
    }
    this.tell({ unread: ids.filter((id) => id > this.seen).length });
  }
}

customElements.define("chat-keeper", ChatKeeper);
