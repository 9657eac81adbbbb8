// <door-bell> triggers the fetching of new messages: whenever the socket rings, and by polling, which is slower while a socket is
// open.
const POLL = 3000; // milliseconds between two polls without a socket
const SLOW_POLL = 30000; // with a socket, in case a ring was lost
const HIDDEN_FACTOR = 5; // times slower while the page is hidden
const SILENCE = 60000; // the server rings every 25 s; a socket that is silent for this long is dead
const TIMEOUT = 15000; // of requests, as in htmx-config.js
const MAX_DELAY = 30000; // before connecting again
const OPEN = 1; // WebSocket.OPEN, also in browsers without WebSocket
const TRY_LATER = 1013; // too many sockets: https://www.iana.org/assignments/websocket
const NOT_FOUND = 4404; // no conversation that this page may listen to

class DoorBell extends HTMLElement {
  connectedCallback() {
    this.tries = 0;
    document.addEventListener("visibilitychange", () => this.wake());
    addEventListener("online", () => this.wake());
    addEventListener("offline", () => this.state("lost"));
    addEventListener("pageshow", (event) => event.persisted && this.wake());
    document.body.addEventListener("htmx:afterRequest", (event) => this.answered(event.detail));
    document.body.addEventListener("htmx:sendError", () => this.fail());
    document.body.addEventListener("htmx:timeout", () => this.fail(true));
    document.addEventListener("conversation-began", () => this.conversationBegan());
    if ("waits" in this.dataset) this.wait();
    else this.whenReady(() => this.begin());
  }

  // There is no conversation yet. It may begin here, or in another tab of the same browser.
  wait() {
    try {
      const otherTabs = new BroadcastChannel(this.dataset.socket);
      otherTabs.onmessage = () => this.conversationBegan();
      document.addEventListener("conversation-began", () => otherTabs.postMessage("began"), { once: true });
    } catch {
      // this browser does not let pages communicate
    }
    document.addEventListener("messages-shown", ({ detail }) => detail.length && !this.begun && this.begin());
  }

  // A socket that was refused because there was no conversation can be opened now.
  conversationBegan() {
    if (this.begun) this.connect();
    else this.begin();
  }

  // htmx listens from DOMContentLoaded on; an earlier ring would be lost.
  whenReady(begin) {
    if (document.readyState === "complete") begin();
    else document.addEventListener("DOMContentLoaded", begin, { once: true });
  }

  begin() {
    delete this.dataset.waits;
    this.begun = true;
    this.connect();
    this.schedulePoll();
  }

  get open() {
    return this.socket?.readyState === OPEN;
  }

  connect() {
    clearTimeout(this.retry);
    if (this.socket?.readyState <= OPEN) return;
    const address = location.origin.replace("http", "ws") + this.dataset.socket;
    let socket;
    try {
      socket = this.socket = new WebSocket(address, document.querySelector("chat-keeper")?.protocols);
    } catch {
      return this.connectLater();
    }
    this.watchSilence();
    socket.onmessage = (event) => {
      this.tries = 0;
      this.heard = Date.now();
      this.watchSilence();
      this.state("live");
      this.ring(JSON.parse(event.data));
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return;
      if (!this.tries && [1012, 1006].includes(code)) return this.comeBack(); // “service restart”, or no code at all
      this.ring(); // fetches new messages, and shows whether the server can be reached
      this.schedulePoll();
      this.connectLater([TRY_LATER, NOT_FOUND].includes(code) ? MAX_DELAY : 0);
    };
  }

  // When a server ends, each of its pages reconnects at a random moment within ten seconds. The new socket rings at once.
  comeBack() {
    const delay = Math.random() * 10000;
    this.tries = 1;
    this.retry = setTimeout(() => this.connect(), delay);
    this.schedulePoll(delay + POLL);
  }

  // Exponential backoff with full jitter.
  connectLater(least = 0) {
    const most = Math.min(MAX_DELAY, 1000 * 2 ** this.tries++);
    this.retry = setTimeout(() => this.connect(), least + Math.random() * Math.max(least, most));
  }

  watchSilence() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.socket?.close(), SILENCE);
  }

  // Forget the socket at once: closing a dead one takes long.
  drop() {
    const { socket } = this;
    this.socket = null;
    socket?.close();
  }

  // A request failed. If it timed out and the socket was silent meanwhile, the socket may be dead too: open another one.
  fail(timedOut) {
    if (timedOut && this.begun && !(Date.now() - this.heard < TIMEOUT)) this.drop(), this.connectLater();
    this.state("lost");
    this.hurry();
  }

  // Poll as often as without a socket, until a request succeeds.
  hurry() {
    this.hurried = true;
    this.schedulePoll();
  }

  // Tell the page that there may be new messages. `detail` is the socket's message.
  ring(detail = {}) {
    document.body.dispatchEvent(new CustomEvent("ring", { detail }));
  }

  schedulePoll(delay) {
    clearTimeout(this.timer);
    if (!this.begun && !this.hurried) return;
    const pace = (this.open && !this.hurried ? SLOW_POLL : POLL) * (document.hidden ? HIDDEN_FACTOR : 1);
    this.timer = setTimeout(() => (this.ring(), this.schedulePoll()), delay ?? pace * (0.9 + Math.random() / 5));
  }

  wake() {
    if (document.hidden) return;
    this.ring();
    if (!this.begun) return;
    this.schedulePoll();
    if (!this.open) this.connect();
  }

  // Any response to a poll means that the page is connected, with a socket or without.
  answered({ xhr, requestConfig }) {
    if (xhr.status === 0) return; // aborted, or failed: other events report that
    if (xhr.status >= 500) return requestConfig.verb === "get" && this.fail();
    this.hurried = false;
    if (xhr.status === 401) this.state("out");
    else this.state(this.open ? "live" : "polling");
    import(document.querySelector("#shown-state")?.dataset.module).catch(() => null); // chat-live.js, where a customer has a conversation
  }

  state(state) {
    const before = document.body.dataset.link;
    if (!this.begun || state === before) return;
    document.body.dataset.link = state;
    this.textContent = this.dataset[state === "polling" ? "live" : state];
    this.dispatchEvent(new CustomEvent(state));
    if (state !== "lost" && (before ?? "lost") === "lost") document.dispatchEvent(new CustomEvent("connected"));
    if (before === "lost" && !this.open) this.connect();
  }
}

customElements.define("door-bell", DoorBell);
