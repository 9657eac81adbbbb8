// <door-bell> says when to look for news. A socket rings at once; where there is none, or it fails, it polls.
const POLL = 3000; // milliseconds between two looks without a socket
const SLOW = 30000; // with one: it has rung already, this is for the ring that was lost
const HIDDEN = 5; // times slower while nobody sees the page
const SILENCE = 60000; // the server rings every 25 s; a socket that is silent for this long is dead
const LONGEST = 30000; // between two tries to connect
const OPEN = 1; // WebSocket.OPEN, also where there is no WebSocket

class DoorBell extends HTMLElement {
  connectedCallback() {
    this.tries = 0;
    document.addEventListener("visibilitychange", () => this.wake());
    addEventListener("online", () => this.wake());
    addEventListener("offline", () => this.state("lost"));
    addEventListener("pageshow", (event) => event.persisted && this.wake());
    document.body.addEventListener("htmx:afterRequest", (event) => this.answered(event.detail));
    for (const failure of ["htmx:sendError", "htmx:timeout"]) {
      document.body.addEventListener(failure, () => this.state("lost"));
    }
    document.addEventListener("conversation-began", () => this.hasBegun());
    if ("waits" in this.dataset) this.wait();
    else this.whenHeard(() => this.begin());
  }

  // There is no conversation yet. It may begin here, or in another tab of the same browser.
  wait() {
    try {
      const others = new BroadcastChannel(this.dataset.socket);
      others.onmessage = () => this.hasBegun();
      document.addEventListener("conversation-began", () => others.postMessage("began"), { once: true });
    } catch {
      // a browser that keeps pages from hearing of each other
    }
    document.addEventListener("messages-shown", ({ detail }) => detail.length && !this.begun && this.begin());
  }

  // A socket that was refused, as nobody's, is worth a try now.
  hasBegun() {
    if (this.begun) this.connect();
    else this.begin();
  }

  // htmx listens from DOMContentLoaded on. The first ring is the catching-up: nobody would hear it before.
  whenHeard(begin) {
    if (document.readyState === "complete") begin();
    else document.addEventListener("DOMContentLoaded", begin, { once: true });
  }

  begin() {
    delete this.dataset.waits;
    this.begun = true;
    this.connect();
    this.poll();
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
      return this.later();
    }
    socket.onmessage = (event) => {
      this.tries = 0;
      this.heard();
      this.state("live");
      this.look(JSON.parse(event.data));
    };
    socket.onclose = (event) => {
      if (socket !== this.socket) return;
      this.look(); // what the ring would have said, and whether the server is there at all
      this.poll();
      this.later(event.code >= 4400 ? LONGEST : 0);
    };
  }

  // Full jitter, so that a thousand pages do not come back in the same second.
  later(least = 0) {
    const most = Math.min(LONGEST, 1000 * 2 ** this.tries++);
    this.retry = setTimeout(() => this.connect(), least + Math.random() * most);
  }

  heard() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.socket.close(), SILENCE);
  }

  // There may be news; `ring` is what the socket said of them.
  look(ring = {}) {
    document.body.dispatchEvent(new CustomEvent("ring", { detail: ring }));
  }

  poll() {
    clearTimeout(this.timer);
    const pace = (this.open ? SLOW : POLL) * (document.hidden ? HIDDEN : 1);
    this.timer = setTimeout(() => (this.look(), this.poll()), pace * (0.9 + Math.random() / 5));
  }

  wake() {
    if (document.hidden) return;
    this.look();
    if (!this.begun) return;
    this.poll();
    if (!this.open) this.connect();
  }

  // What became of a look: any answer means that we are connected, with a socket or without.
  answered({ xhr }) {
    if (xhr.status === 0) return; // it failed, which is said apart, or was given up
    if (xhr.status === 401) this.state("out");
    else if (xhr.status >= 500 && !this.open) this.state("lost");
    else this.state(this.open ? "live" : "polling");
  }

  state(state) {
    const before = document.body.dataset.link;
    if (!this.begun || state === before) return;
    document.body.dataset.link = state;
    this.textContent = this.dataset[state === "polling" ? "live" : state];
    this.dispatchEvent(new CustomEvent(state));
    if (state !== "lost" && (before === "lost" || before === undefined)) document.dispatchEvent(new CustomEvent("connected"));
    if (before === "lost" && !this.open) this.connect();
  }
}

customElements.define("door-bell", DoorBell);
