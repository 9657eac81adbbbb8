// <typing-line> below the messages shows who is typing, and says over the doorbell's socket that the reader of this page is. Nothing
// of it is stored: it ends after END unless it is said again, when the socket closes, and at once when the message arrives.
const PAUSE = 1100; // milliseconds between two messages on a socket; the server ignores what comes within 900
const AGAIN = 7000; // milliseconds until it is said again, while somebody goes on typing
const END = 10000; // as in conversations/presence/looking.py
const IDLE = 5000; // milliseconds without a key after which nobody is typing, though the text is not sent
const MOST = 2000; // characters, MAX_PEEK in conversations/presence/typing.py

const bell = document.querySelector("door-bell");
const waiting = new Map(); // what is to be said, by its type: only the newest counts
let timer, saidAt = 0;

function say(message) {
  waiting.set(message.type, message);
  timer ??= setTimeout(sayNext, Math.max(0, saidAt + PAUSE - Date.now()));
}

function sayNext() {
  timer = null;
  if (!bell.open) waiting.clear();
  const [message] = waiting.values();
  if (!message) return;
  waiting.delete(message.type);
  bell.socket.send(JSON.stringify(message));
  saidAt = Date.now();
  if (waiting.size) timer = setTimeout(sayNext, PAUSE);
}

// What the socket says of people is no ring. This is not in door-bell.js, because that is part of the first page of every customer.
const { ring } = bell;
bell.ring = (detail) => {
  if (!detail?.type || detail.type === "messages") return ring.call(bell, detail);
  document.body.dispatchEvent(new CustomEvent("said", { detail }));
};

class TypingLine extends HTMLElement {
  static say = say;

  connectedCallback() {
    this.innerHTML = `<p class="when" role="status"></p><div class="peek bubble" dir="auto" hidden></div>`;
    [this.words, this.text] = this.children;
    this.conversation = this.closest("[data-conversation]")?.dataset.conversation; // on agents' pages
    this.ends = new Map(); // the timer of each name
    this.toldAt = 0;
    this.disconnected = new AbortController();
    const on = (target, name, handle) => target.addEventListener(name, handle, this.disconnected);
    on(document.body, "said", ({ detail }) => this.hear(detail));
    on(document.body, "ring", () => bell.open || this.clear());
    on(bell, "lost", () => this.clear());
    on(document, "messages-shown", ({ detail }) => detail.some((row) => row.matches(".theirs")) && this.clear());
    on(document, "input", ({ target }) => target.id === "content" && this.tell());
    // After it was sent, or the field has become that of a note.
    for (const name of ["keydown", "click", "htmx:afterSettle"]) on(document, name, () => this.toldAt && setTimeout(() => this.draft || this.tell()));
  }

  disconnectedCallback() {
    this.disconnected.abort();
    clearTimeout(this.idle);
    this.clear();
  }

  // `name` is that of an agent, for customers. Agents are told of the customer here; colleagues are shown by <who-is-here>.
  hear({ type, name = this.dataset.name, on = true, conversation, agent, text }) {
    if (type !== "typing" || agent || (conversation && String(conversation) !== this.conversation)) return;
    clearTimeout(this.ends.get(name));
    if (on) this.ends.set(name, setTimeout(() => this.end(name), END));
    else this.ends.delete(name);
    this.show(text);
  }

  end(name) {
    this.ends.delete(name);
    this.show();
  }

  clear() {
    for (const end of this.ends.values()) clearTimeout(end);
    this.ends.clear();
    this.show();
  }

  // A screen reader announces only changes of the words, and never what is typed.
  show(text = "") {
    const name = [...this.ends.keys()].pop();
    const words = name ? this.dataset.words.replace("{name}", () => name) : "";
    if (this.words.textContent !== words) this.words.textContent = words;
    this.text.hidden = !name || !text;
    this.text.textContent = text;
  }

  // What the reader is writing; notes are nobody's business.
  get draft() {
    const field = document.getElementById("content");
    return field && !field.closest(".note") ? field.value : "";
  }

  // Say whether the reader is typing a message. Where the page says that agents see what is typed, say that too.
  tell(text = this.draft) {
    const isTyping = Boolean(text.trim());
    const peeks = document.getElementById("peeked");
    clearTimeout(this.idle);
    if (isTyping && !peeks) this.idle = setTimeout(() => this.tell(""), IDLE);
    if (!peeks && (isTyping ? Date.now() < this.toldAt + AGAIN : !this.toldAt)) return;
    this.toldAt = isTyping ? Date.now() : 0;
    if (peeks) say({ type: "peek", text: isTyping ? text.slice(0, MOST) : "" });
    else say({ type: "typing", on: isTyping });
  }
}

customElements.define("typing-line", TypingLine);
