// <agent-answer> above an agent's <chat-composer> says with each answer what its writer has seen of the conversation. If a
// colleague has answered since, the server asks whether to send it too: the question is shown at the unsent answer.
// It stands before chat-composer.js in the bundle, so it is there before the composer sends what is still unsent.
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

class AgentAnswer extends HTMLElement {
  connectedCallback() {
    this.composer = this.parentElement.querySelector("chat-composer");
    this.form = this.composer.querySelector("form");
    this.key = this.composer.dataset.draft;
    this.form.addEventListener("formdata", (event) => this.addSeen(event));
    this.composer.addEventListener("refused", ({ detail }) => this.onRefused(detail));
    // An answer that waits for an earlier one was written when it was added, not when it is sent.
    this.watcher = new MutationObserver(() => this.remember());
    this.watcher.observe(document.querySelector(".messages.waiting"), { childList: true });
  }

  disconnectedCallback() {
    this.watcher.disconnect();
  }

  // What was seen when each unsent answer was written, by its client_id. It survives a reload, as the answers do.
  get written() {
    return store.get(`written ${this.key}`, {});
  }

  set written(written) {
    store.set(`written ${this.key}`, written);
  }

  remember() {
    const before = this.written;
    const written = {};
    for (const { name, id } of this.composer.items ?? []) {
      if (!id) written[name] = before[name] ?? { seen: document.querySelector("message-list").last };
    }
    this.written = written;
    return written;
  }

  // The composer is about to send its first unsent answer.
  addSeen({ formData }) {
    const item = this.composer.items?.find((item) => !item.id && !item.refused);
    if (item) formData.set("seen", this.remember()[item.name].seen);
  }

  // A colleague has answered: fetch what they wrote, and let the agent choose.
  onRefused({ item, response, change }) {
    const answered = Number(response.headers.get("X-Answered"));
    if (!answered) return;
    const retry = item.row.querySelector("button");
    const text = retry.textContent;
    retry.textContent = this.dataset.anyway;
    change.textContent = this.dataset.edit;
    item.row.classList.add("asks");
    const send = () => {
      this.written = { ...this.written, [item.name]: { ...this.written[item.name], seen: answered } };
      item.row.classList.remove("asks");
      retry.textContent = text;
    };
    retry.addEventListener("click", send, { once: true, capture: true }); // before the composer's listener
    document.body.dispatchEvent(new CustomEvent("messages"));
  }
}

customElements.define("agent-answer", AgentAnswer);
