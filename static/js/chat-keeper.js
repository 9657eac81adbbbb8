// <chat-keeper> knows where the customer's secret is stored: in a cookie that no script sees, by the page around the chat, in
// this frame's own storage, or only in memory while this page is open. Only it communicates with the page around the chat
// (loader.js), by a MessagePort to a page of exactly the origin data-host. A cookie is the usual case; the code for all others
// is in chat-secret.js, which is loaded when needed.
const ANSWER_TIMEOUT = 3000; // milliseconds to wait for an answer of the page around the chat
const RETRY = 15000; // milliseconds until a failed call is repeated
const MAX_PROOF = 5000; // characters; the server accepts fewer

class ChatKeeper extends HTMLElement {
  connectedCallback() {
    this.headers = {}; // sent with every request of this page
    this.htmx = htmx; // modules cannot access it
    this.open = !this.dataset.host;
    this.seen = 0;
    this.ready = new Promise((ready) => (this.settled = ready)); // resolved when the customer is known; nothing is sent before
    document.body.addEventListener("htmx:configRequest", ({ detail }) => Object.assign(detail.headers, this.headers));
    document.addEventListener("messages-shown", () => this.countUnread());
    document.addEventListener("visibilitychange", () => this.countUnread());
    document.addEventListener("click", (event) => this.openFile(event));
    document.addEventListener("keydown", (event) => this.onKey(event));
    document.querySelector(".close").addEventListener("click", () => this.tellHost({ close: true }));
    document.body.addEventListener("stranger", () => this.isNew || this.reload("secretRenewed"));
    document.body.addEventListener("another", () => this.reload("conversationChanged"));
    addEventListener("message", (event) => this.acceptPort(event));
    this.start();
  }

  async start() {
    const waits = this.isNew && this.dataset.host && window !== parent; // wait until the page around the chat has sent the secret that it stores
    if (waits) setTimeout(this.settled, ANSWER_TIMEOUT);
    if (location.hash.startsWith("#code=")) await this.lazyUntilDone("enter");
    if (this.isNew && this.stored) await this.lazyUntilDone("recall", this.stored);
    if (!waits || !this.isNew) this.settled();
  }

  // Call a function of chat-secret.js.
  async lazy(name, ...details) {
    let module;
    try {
      module = await import(this.dataset.module);
    } catch (error) {
      this.dataset.module += "?"; // another URL: older browsers remember a failed import
      throw error;
    }
    return module[name](...details);
  }

  // Call a function of chat-secret.js; try again while it fails and there is no conversation yet.
  lazyUntilDone(...call) {
    return this.lazy(...call).catch(() => setTimeout(() => this.isNew && this.lazyUntilDone(...call), RETRY));
  }

  // The conversation of this page may have changed: one check at a time. If it fails, the next poll starts another one.
  reload(name) {
    return (this.reloading ||= this.lazy(name).catch(() => null).finally(() => (this.reloading = null)));
  }

  // Whether there is no conversation yet.
  get isNew() {
    return "waits" in this.dataset;
  }

  url(name) {
    return this.dataset.secretUrls.replace("*", name);
  }

  // Make a request whose response sets the secret as a cookie. If the browser does not send the cookie back, repeat the
  // request with X-Keep, so that the secret is in a header of the response.
  async obtainSecret(request) {
    let response = await request({});
    if (response.ok && !this.headers["X-Chat"] && response.headers.get("X-Secret") !== "") {
      if (await this.isCookieSent()) this.tellHost({ known: true });
      else response = await request({ "X-Keep": "yes" });
    }
    await this.takeSecret(response);
    return response;
  }

  // Any response may contain another secret, or "" if ours is not valid.
  async takeSecret(response) {
    const secret = response.headers.get("X-Secret");
    if (secret !== null) await this.lazy("takeSecret", secret);
  }

  async isCookieSent() {
    const response = await fetch(this.url("known"), { signal: AbortSignal.timeout?.(5 * ANSWER_TIMEOUT) });
    return response.headers.get("X-Known") === "yes";
  }

  // Another tab may have begun a conversation meanwhile, and stored its secret.
  async recallSecret() {
    const secret = !this.headers["X-Chat"] && (this.stored || (await this.askHost({ recall: true })));
    if (typeof secret === "string") await this.lazy("recall", secret);
  }

  // The customer has signed out: drafts, unsent messages and the secret are wiped. Requests in flight are aborted first,
  // because a response could set a secret. If they have signed out in another tab, the cookie may be the next customer's.
  async wipe(elsewhere) {
    const chat = this.headers["X-Chat"] || this.stored;
    delete this.headers["X-Identity"];
    try {
      sessionStorage.clear();
      localStorage.removeItem(this.storageKey);
    } catch {
      // there is no storage
    }
    document.querySelector("chat-composer")?.abandon();
    if (chat || !elsewhere) await fetch(this.url("forget"), { method: "POST", body: JSON.stringify({ chat }) }).catch(() => null);
  }

  get storageKey() {
    return `chat ${location.pathname} ${this.dataset.host || ""}`;
  }

  get stored() {
    try {
      return localStorage.getItem(this.storageKey);
    } catch {
      return null;
    }
  }

  // The subprotocols in which the doorbell's socket sends the secret, because scripts cannot set headers of a socket.
  get protocols() {
    return this.headers["X-Chat"] && ["chat", this.headers["X-Chat"]];
  }

  // A link cannot send the secret in a header, and a new window does not send the cookie of a frame.
  openFile(event) {
    const link = event.target.closest(".files a[href]:not([href^=blob])");
    if (!link || !(this.headers["X-Chat"] || this.dataset.host)) return;
    event.preventDefault();
    this.lazy("openFile", link).catch(() => null); // the customer can click again
  }

  // A conversation has begun in this page; or, with false, there is none any more.
  begin(begun = true) {
    this.toggleAttribute("data-waits", !begun);
    if (begun) document.dispatchEvent(new CustomEvent("conversation-began"));
  }

  // Send the website's identity proof, and repeat it until the server has answered.
  identify(proof) {
    this.proof = proof;
    this.headers["X-Identity"] = encodeURI(proof.replace(/\p{Surrogate}/gu, "")).slice(0, MAX_PROOF); // headers may only contain ASCII
    const retry = () => this.proof === proof && this.identify(proof);
    return this.lazy("identify").catch(() => setTimeout(retry, RETRY));
  }

  // Take the port only from the window around the chat, and only if it has exactly the expected origin.
  acceptPort({ source, origin, data, ports }) {
    if (source !== parent || origin !== this.dataset.host || data !== "chatsite" || !ports[0]) return;
    this.port = ports[0];
    this.port.onmessage = ({ data }) => this.onMessage(data);
    document.body.classList.add("in-a-panel");
    this.tellHost({ ready: true });
  }

  async onMessage(message) {
    if (typeof message !== "object" || message === null) return;
    if ("answer" in message) this.answered?.(message.answer);
    if (message.gone) await this.wipe(message.elsewhere), this.tellHost({ gone: true });
    if (Number.isSafeInteger(message.seen)) this.seen = message.seen;
    if (typeof message.open === "boolean") this.setOpen(message.open, message.focus);
    if (message.hello) {
      if (message.fresh) await this.wipe(true), this.isNew || (await this.reload("conversationChanged"));
      if (this.isNew && typeof message.chat === "string") await this.lazyUntilDone("recall", message.chat);
    }
    if (typeof message.proof === "string") await this.identify(message.proof);
    if (message.hello) this.settled(), this.countUnread();
  }

  // The frame may get the focus a moment after this message, with none of its elements focused.
  setOpen(open, focus) {
    this.open = open;
    if (focus && matchMedia("(pointer: fine)").matches) {
      requestAnimationFrame(() => this.focusField()); // after a hidden frame is drawn again
      if (!document.hasFocus()) addEventListener("focus", () => this.focusField(), { once: true });
    }
    this.countUnread();
  }

  focusField() {
    if (this.open) document.querySelector("#content")?.focus({ preventScroll: true });
  }

  // Safari does not let a script focus an element of a frame before the user has interacted with it: the first key focuses it.
  onKey({ key, ctrlKey, metaKey }) {
    if (key === "Escape") this.tellHost({ close: true });
    if (key.length === 1 && !ctrlKey && !metaKey && document.activeElement === document.body) this.focusField();
  }

  tellHost(message) {
    this.port?.postMessage(message);
  }

  // Send a message to the page around the chat, and wait for its answer; false if there is none.
  askHost(message) {
    if (!this.port) return false;
    return new Promise((answered) => {
      this.answered = answered;
      this.tellHost(message);
      setTimeout(() => answered(false), ANSWER_TIMEOUT);
    });
  }

  // The number of unread messages, for the button on the page around the chat.
  countUnread() {
    const ids = [...document.querySelectorAll("#messages > .theirs")].map((row) => Number(row.dataset.id));
    if (this.open && !document.hidden) {
      this.seen = Math.max(this.seen, ...ids);
      this.tellHost({ seen: this.seen });
    }
    this.tellHost({ unread: ids.filter((id) => id > this.seen).length });
  }
}

customElements.define("chat-keeper", ChatKeeper);
