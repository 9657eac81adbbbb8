// <desk-notices> calls the agent when a customer writes or a colleague mentions them: by a sound, by a notification on the
// desktop, and by the number of unread conversations in the page's icon. Of several tabs, one calls.
const SOON = 300; // milliseconds; what comes together is one call
const PAUSE = 120000; // milliseconds without an answer from the server: the machine has slept, or there was no connection
const LAG = 5000; // milliseconds; a message gets its id before it is stored, so it may be found a moment after one with a higher id
const MOST = 3; // notifications at once; above that, one with their number
const TIMEOUT = 15000; // milliseconds
const KNOWN = 500; // conversations
const CALLER = "chatsite-caller";
const SHOWN = "chatsite-inbox";

class DeskNotices extends HTMLElement {
  connectedCallback() {
    this.known = new Map(); // the ids up to which the agent was called, by conversation
    this.looked = Date.now();
    this.calls = !navigator.locks;
    document.body.addEventListener("ring", ({ detail }) => this.onRing(detail));
    document.addEventListener("unread", ({ detail }) => this.showNumber(detail));
    for (const name of ["focus", "blur"]) addEventListener(name, () => this.tellOthers());
    document.addEventListener("visibilitychange", () => this.tellOthers());
    document.body.addEventListener("htmx:afterSettle", () => this.tellOthers());
    afterPaint().then(() => this.begin());
  }

  begin() {
    navigator.locks?.request(CALLER, () => ((this.calls = true), new Promise(() => {}))); // until this tab is closed
    this.tellOthers();
    this.showNumber(Number(document.querySelector("#list [data-unread]")?.dataset.unread));
  }

  get wants() {
    return this.dataset.when !== "off" || this.mayNotify;
  }

  get mayNotify() {
    return "desktop" in this.dataset && window.Notification?.permission === "granted";
  }

  // What this tab shows, as the name of a lock: other tabs see it, and it ends with the tab.
  get state() {
    if (document.hidden) return "";
    const open = document.querySelector("[data-conversation]")?.dataset.conversation ?? "";
    return `${SHOWN} ${document.hasFocus() ? "front" : "behind"} ${open}`;
  }

  tellOthers() {
    const { state } = this;
    if (!navigator.locks || state === this.told) return;
    this.told = state;
    this.release?.();
    const held = new Promise((release) => (this.release = release));
    if (state) navigator.locks.request(state, { mode: "shared" }, () => held);
  }

  // What all tabs show.
  async states() {
    const locks = navigator.locks ? (await navigator.locks.query()).held.map(({ name }) => name) : [];
    return [this.state, ...locks].filter((name) => name.startsWith(SHOWN)).map((name) => name.split(" "));
  }

  // A ring with a conversation tells of its message `last`; without one, it is a heartbeat or, without `last`, a poll.
  onRing({ type = "messages", conversation, last, beside, mentions }) {
    if (type !== "messages") return;
    const isMention = mentions?.includes(Number(document.getElementById("list").dataset.agent));
    if (beside && !isMention) return;
    if (!this.calls || !this.wants) {
      if (last) this.forget(last);
      return;
    }
    if (last && !conversation) {
      if (this.since === undefined) this.forget(last);
      if (last <= this.since) {
        this.looked = Date.now();
        return;
      }
    }
    this.timer ??= setTimeout(() => this.look(), SOON);
  }

  // What has come up to this id calls nobody any more.
  forget(last) {
    this.since = Math.max(this.since ?? 0, last);
    this.past = [this.since, this.since];
    this.turned = Date.now();
  }

  async look() {
    this.timer = undefined;
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
    const query = new URLSearchParams({ zone: timeZone });
    if (this.past) query.set("since", this.past[0]);
    let answer;
    try {
      const response = await fetch(`${this.dataset.url}?${query}`, { signal: AbortSignal.timeout?.(TIMEOUT) });
      answer = response.ok && (await response.json());
    } catch {
      // the next ring or poll asks again
    }
    if (!answer) return;
    const isLate = Date.now() - this.looked > PAUSE;
    this.looked = Date.now();
    if (!this.past) return this.forget(answer.last);
    this.since = Math.max(this.since, answer.last);
    if (Date.now() - this.turned > LAG) {
      this.past = [this.past[1], this.since];
      this.turned = Date.now();
    }
    await this.call(answer, isLate);
  }

  async call({ calls, quiet }, isLate) {
    const states = await this.states();
    const isOpen = ({ conversation }) => states.some(([, , open]) => open === String(conversation));
    const isNew = ({ conversation, last }) => !(this.known.get(conversation) >= last);
    const found = calls.filter((each) => isNew(each) && !isOpen(each));
    if (this.known.size > KNOWN) this.known.clear();
    for (const { conversation, last } of calls) this.known.set(conversation, last);
    if (!found.length || quiet || !this.claim(found)) return;
    const isInFront = states.some(([, where]) => where === "front");
    if (this.dataset.when === "always" || (this.dataset.when === "hidden" && !isInFront)) this.play();
    if (!this.mayNotify || isInFront) return;
    if (found.length > MOST || (isLate && found.length > 1)) this.notify(this.dataset.many.replace("{n}", found.length), "many");
    else for (const { text, conversation } of found) this.notify(text, conversation);
  }

  // Without locks, each tab calls, and the first one writes down for the others what it has called for.
  claim(found) {
    if (navigator.locks) return true;
    const last = Math.max(...found.map((each) => each.last));
    try {
      if (Number(localStorage.getItem(CALLER)) >= last) return false;
      localStorage.setItem(CALLER, last);
    } catch {
      // there is no storage
    }
    return true;
  }

  async play() {
    const { play } = await import(this.dataset.sounds);
    await play(this.dataset.sound);
  }

  notify(text, conversation) {
    let notification;
    try {
      notification = new Notification(text, { tag: `chatsite ${conversation}`, icon: this.dataset.icon });
    } catch {
      return; // Chrome on Android shows none of pages
    }
    notification.onclick = () => {
      notification.close();
      focus();
      this.open(conversation);
    };
  }

  open(conversation) {
    if (conversation === "many") return;
    const row = document.getElementById(`row-${conversation}`);
    if (row) row.click();
    else location.assign(`${this.dataset.inbox}${conversation}/`);
  }

  showNumber(number) {
    if (!(number >= 0) || number === this.number) return;
    this.number = number;
    if (number) navigator.setAppBadge?.(number)?.catch(() => null);
    else navigator.clearAppBadge?.()?.catch(() => null);
    const icon = document.querySelector("link[rel=icon]");
    if (!number) {
      icon.href = this.dataset.icon;
      return;
    }
    const picture = new Image(32, 32);
    picture.onload = () => number === this.number && (icon.href = this.draw(picture, number > 9 ? "9+" : String(number)));
    picture.src = this.dataset.icon;
  }

  draw(picture, text) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 32 });
    const pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, 0, 32, 32);
    pen.fillStyle = "#c8262c";
    pen.beginPath();
    pen.arc(21, 21, 11, 0, 2 * Math.PI);
    pen.fill();
    Object.assign(pen, { fillStyle: "#fff", font: `bold ${text.length > 1 ? 14 : 18}px sans-serif`, textAlign: "center", textBaseline: "middle" });
    pen.fillText(text, 21, 22);
    return canvas.toDataURL();
  }
}

customElements.define("desk-notices", DeskNotices);
