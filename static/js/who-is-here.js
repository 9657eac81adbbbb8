// <who-is-here> above an agent's composer shows which colleagues look at the same conversation, and who is answering. It says over the
// doorbell's socket that this page shows the conversation, while somebody can see it.
const AGAIN = 7000; // milliseconds; the server forgets it after 10 seconds
const END = 10000;

const { say } = customElements.get("typing-line");
const bell = document.querySelector("door-bell");

class WhoIsHere extends HTMLElement {
  connectedCallback() {
    this.conversation = Number(this.closest("[data-conversation]").dataset.conversation);
    this.looking = [];
    this.answering = new Map(); // the timer of each name
    this.disconnected = new AbortController();
    const on = (target, name, handle) => target.addEventListener(name, handle, this.disconnected);
    on(document.body, "said", ({ detail }) => this.hear(detail));
    on(document.body, "ring", () => this.onRing());
    on(bell, "lost", () => this.clear());
    on(document, "visibilitychange", () => this.tell());
    on(document, "messages-shown", ({ detail }) => this.arrived(detail));
    this.timer = setInterval(() => document.hidden || this.tell(), AGAIN);
    this.tell();
  }

  disconnectedCallback() {
    this.disconnected.abort();
    clearInterval(this.timer);
    this.clear();
    say({ type: "looking", conversation: null });
  }

  tell() {
    say({ type: "looking", conversation: document.hidden ? null : this.conversation });
  }

  // A new socket knows nothing yet.
  onRing() {
    if (!bell.open) this.clear();
    else if (bell.socket !== this.socket) this.tell();
    this.socket = bell.socket;
  }

  hear({ type, conversation, who, agent, on = true }) {
    if (conversation !== this.conversation) return;
    if (type === "looking") {
      this.looking = who;
      clearTimeout(this.end);
      this.end = setTimeout(() => ((this.looking = []), this.show()), END);
    } else if (agent) {
      clearTimeout(this.answering.get(who));
      if (on) this.answering.set(who, setTimeout(() => (this.answering.delete(who), this.show()), END));
      else this.answering.delete(who);
    }
    this.show();
  }

  // A colleague's answer has arrived.
  arrived(rows) {
    if (rows.some((row) => row.matches(".mine:not(.own)"))) this.clearAnswering();
    this.show();
  }

  clearAnswering() {
    for (const timer of this.answering.values()) clearTimeout(timer);
    this.answering.clear();
  }

  clear() {
    clearTimeout(this.end);
    this.looking = [];
    this.clearAnswering();
    this.show();
  }

  // Whoever answers also looks. Unchanged words are not announced again.
  show() {
    const answering = [...this.answering.keys()];
    const names = answering.length ? answering : this.looking;
    const { looks, look, answers, answer } = this.dataset;
    const words = answering.length ? [answers, answer] : [looks, look];
    const text = names.length ? words[names.length > 1 ? 1 : 0].replace("{names}", () => names.join(", ")) : "";
    const line = this.firstElementChild;
    if (line.textContent === text) return;
    line.textContent = line.title = text;
    line.classList.toggle("answering", answering.length > 0);
  }
}

customElements.define("who-is-here", WhoIsHere);
