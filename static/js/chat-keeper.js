// <chat-keeper> knows who keeps what makes this browser the customer: a cookie that no script sees, the page around the
// chat, this frame's own storage or, where nothing is kept at all, this page for as long as it is open. It is the only one
// that speaks with the page around the chat (loader.js): over a port, whose other end is in a page of exactly data-host.
// Where a cookie keeps it, as mostly, this is all; what else may happen is in chat-secret.js, which comes when it does.
const PATIENCE = 3000; // milliseconds to wait for the page around the chat to say what it keeps
const AGAIN = 15000; // until the next try of what has to be done
const LONGEST = 5000; // characters of a proof, more than the server looks at

class ChatKeeper extends HTMLElement {
  connectedCallback() {
    this.headers = {}; // what every request of this page brings along
    this.htmx = htmx; // for modules, which do not see it
    this.open = !this.dataset.host;
    this.seen = 0;
    this.ready = new Promise((ready) => (this.settled = ready)); // nothing is sent before we know who we are
    document.body.addEventListener("htmx:configRequest", ({ detail }) => Object.assign(detail.headers, this.headers));
    document.addEventListener("messages-shown", () => this.count());
    document.addEventListener("visibilitychange", () => this.count());
    document.addEventListener("click", (event) => this.openFile(event));
    document.addEventListener("keydown", (event) => this.key(event));
    document.querySelector(".close").addEventListener("click", () => this.tell({ close: true }));
    document.body.addEventListener("stranger", () => this.isNew || this.insist("lose"));
    document.body.addEventListener("another", () => this.change());
    addEventListener("message", (event) => this.greet(event));
    this.start();
  }

  async start() {
    const waits = this.isNew && this.dataset.host && window !== parent; // for the page around us to say what it keeps
    if (waits) setTimeout(this.settled, PATIENCE);
    if (location.hash.startsWith("#code=")) await this.insist("enter");
    if (this.isNew && this.stored()) await this.insist("recall", this.stored());
    if (!waits || !this.isNew) this.settled();
  }

  // Something that few customers ever need.
  async rarely(deed, ...details) {
    let module;
    try {
      module = await import(this.dataset.module);
    } catch (error) {
      this.dataset.module += "?"; // another name: older browsers remember that there was nothing under this one
      throw error;
    }
    return module[deed](...details);
  }

  // The same, again and again while it does not come and there is no conversation yet.
  insist(...deed) {
    return this.rarely(...deed).catch(() => setTimeout(() => this.isNew && this.insist(...deed), AGAIN));
  }

  // Whether there is no conversation yet.
  get isNew() {
    return "waits" in this.dataset;
  }

  address(name) {
    return this.dataset.keep.replace("*", name);
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

  // Whatever answers may bring another secret, or say that ours is worth nothing: "".
  async take(response) {
    const secret = response.headers.get("X-Secret");
    if (secret !== null) await this.rarely("take", secret);
  }

  async known() {
    const response = await fetch(this.address("known"), { signal: AbortSignal.timeout?.(5 * PATIENCE) });
    return response.headers.get("X-Known") === "yes";
  }

  // Another tab may have begun meanwhile, and the page around us or this browser may keep what it was given.
  async catchUp() {
    const kept = !this.headers["X-Chat"] && (this.stored() || (await this.ask({ recall: true })));
    if (typeof kept === "string") await this.rarely("recall", kept);
  }

  // In another tab somebody has left, or come: the conversation here is not this browser's any more. Polls ask for it again.
  change() {
    return (this.changing ||= this.rarely("change").catch(() => null).finally(() => (this.changing = null)));
  }

  // Whoever uses this tab from now on is somebody else: what was being written, or is still to be sent, is not theirs. What
  // is on its way is stopped first: its answer would bring a secret.
  // Where that was in another tab, the cookie is somebody else's by now, for all we know.
  async wipe(elsewhere) {
    const chat = this.headers["X-Chat"] || this.stored();
    delete this.headers["X-Identity"];
    try {
      sessionStorage.clear();
      localStorage.removeItem(this.place);
    } catch {
      // nothing was kept
    }
    document.querySelector("chat-composer")?.abandon();
    if (chat || !elsewhere) await fetch(this.address("forget"), { method: "POST", body: JSON.stringify({ chat }) }).catch(() => null);
  }

  get place() {
    return `chat ${location.pathname} ${this.dataset.host || ""}`;
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
    return this.headers["X-Chat"] && ["chat", this.headers["X-Chat"]];
  }

  // A link sends no header, and a new window not even the cookie of a chat that stands in a page.
  openFile(event) {
    const link = event.target.closest(".files a[href]:not([href^=blob])");
    if (!link || !(this.headers["X-Chat"] || this.dataset.host)) return;
    event.preventDefault();
    this.rarely("open", link).catch(() => null); // and pressed once more
  }

  // There is a conversation from now on, or there is none any more.
  begin(is = true) {
    this.toggleAttribute("data-waits", !is);
    if (!is) return;
    document.dispatchEvent(new CustomEvent("conversation-began"));
  }

  // The website's own server says who the customer is. Where that does not go through, it is said again.
  identify(proof) {
    this.proof = proof;
    this.headers["X-Identity"] = encodeURI(proof.replace(/\p{Surrogate}/gu, "")).slice(0, LONGEST); // headers take only ASCII
    const again = () => this.proof === proof && this.identify(proof);
    return this.rarely("identify").catch(() => setTimeout(again, AGAIN));
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
    if (said.gone) await this.wipe(said.elsewhere), this.tell({ gone: true });
    if (Number.isSafeInteger(said.seen)) this.seen = said.seen;
    if (typeof said.open === "boolean") this.show(said.open, said.focus);
    if (said.hello) {
      if (said.fresh) await this.wipe(true), this.isNew || (await this.change());
      if (this.isNew && typeof said.chat === "string") await this.insist("recall", said.chat);
    }
    if (typeof said.proof === "string") await this.identify(said.proof);
    if (said.hello) this.settled(), this.count();
  }

  // The focus may reach this frame a moment after the word that it is ours, and would be with nothing in it.
  show(open, focus) {
    this.open = open;
    if (focus && matchMedia("(pointer: fine)").matches) {
      requestAnimationFrame(() => this.takeFocus()); // not before a frame that was hidden is drawn again
      if (!document.hasFocus()) addEventListener("focus", () => this.takeFocus(), { once: true });
    }
    this.count();
  }

  takeFocus() {
    if (this.open) document.querySelector("#content")?.focus({ preventScroll: true });
  }

  // Safari gives the focus to nothing in a frame where nobody has done anything yet. Then the first letter does.
  key({ key, ctrlKey, metaKey }) {
    if (key === "Escape") this.tell({ close: true });
    if (key.length === 1 && !ctrlKey && !metaKey && document.activeElement === document.body) this.takeFocus();
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
