// The chat in a page of somebody's website: a bubble, and the panel that it opens. It asks for nothing until then, unless
// this customer has written before. Whatever fails here must not be noticed by the page.
(() => {
  const early = window.Chatsite;
  const script = document.currentScript;
  if (early?.open || !script) return; // it is here already

  const { website, accent, position, language } = script.dataset;
  const key = website || "default";
  const look = __APPEARANCE__[key] || [];
  const [chat, sorry, shut] = __TEXTS__;
  const home = new URL(script.src).origin;
  const base = `${home}/chat/${key === "default" ? "" : `${key}/`}`;
  const host = `?host=${encodeURIComponent(location.origin)}`;
  const place = `chatsite ${key}`;
  const PATIENCE = 10000; // milliseconds until a chat that says nothing counts as out of reach
  const GRACE = 1500; // until one that has loaded does: a page that is not the chat has nothing to say
  const LOOK = 60000; // between two looks for messages and words to the agents that somebody is here
  const STEP = 3000; // between two looks at whether it is another page by now, or its title

  let memory = {};
  const read = () => {
    try {
      return JSON.parse(localStorage.getItem(place)) || memory;
    } catch {
      return memory;
    }
  };
  const write = (changes) => {
    memory = { ...read(), ...changes };
    try {
      localStorage.setItem(place, JSON.stringify(memory));
      return true;
    } catch {
      return false;
    }
  };

  const heard = {}; // event: those who want to hear of it
  const emit = (event, detail) => heard[event]?.forEach((hear) => attempt(() => hear(detail)));
  const attempt = (deed) => {
    try {
      return deed();
    } catch {
      // the page around us goes on as if we were not here
    }
  };

  const make = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const element = document.createElement("div");
  const root = element.attachShadow({ mode: "open" });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const badge = make("span", { className: "badge", hidden: true });
  const bubble = make("button", { className: "bubble", onclick: () => toggle() }, svg, badge);
  const leave = make("button", { textContent: shut, onclick: () => close() });
  const trouble = make("div", { className: "trouble", hidden: true }, make("p", { textContent: sorry }), leave);
  const panel = make("div", { className: "panel", hidden: true }, trouble);
  let frame, port, timer, proof, seenAt, looked, gone;

  const tell = (word) => port?.postMessage(word);

  const label = (unread) => {
    badge.hidden = !unread;
    badge.textContent = unread > 9 ? "9+" : unread;
    bubble.ariaLabel = unread ? `${chat} (${unread})` : chat;
    emit("unread", unread);
  };

  const load = async () => {
    frame?.remove();
    port = null;
    panel.className = "panel"; // on a phone the bubble closes it until the chat itself has come, with a button to do so
    trouble.hidden = true;
    const mine = (frame = make("iframe", { title: chat }));
    wait(PATIENCE);
    panel.prepend(mine);
    // Before anything is shown: an answer that came late has kept them after all. Where that is refused, nothing is.
    if (read().fresh && (await send("forget")) === false) return wait(0);
    mine.onload = () => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = ({ data }) => attempt(() => (mine === frame ? hear(data, port1) : data.gone && gone())); // else it is being wiped
      attempt(() => mine.contentWindow.postMessage("chatsite", home, [port2])); // to no other origin
      if (mine === frame && !port) wait(GRACE);
    };
    mine.src = base + host + (language ? `&language=${language}` : "");
  };
  const wait = (time) => {
    clearTimeout(timer);
    timer = setTimeout(() => (trouble.hidden = false), time);
  };

  const hear = (said, from) => {
    if (said.ready) {
      clearTimeout(timer);
      trouble.hidden = true;
      panel.className = "panel met";
      port = from;
      const { chat, seen = 0, fresh } = read();
      write({ fresh: 0 });
      tell({ hello: true, fresh, chat, seen, open: !panel.hidden, focus: root.activeElement === frame, proof });
    }
    if (said.known) write({ chat: read().chat || 1 }), here();
    if (said.keep === "" && (read().chat === said.was || read().chat === 1)) write({ chat: 0, seen: 0 });
    if (said.keep) tell({ answer: write({ chat: said.keep }) }), here();
    if (said.recall) tell({ answer: read().chat });
    if (said.seen) write({ seen: said.seen });
    if ("unread" in said) label(said.unread);
    if (said.close) close();
    if (said.event) emit(said.event, said.detail);
  };

  // Which page the customer is on, for the agents, or has left, and whether there is something to read.
  const send = async (what, left) => {
    const { chat, seen } = read();
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const said = { url: location.href, title: document.title, referrer: document.referrer, language, zone, seen, chat, left };
    const post = { method: "POST", credentials: "include", keepalive: true, body: JSON.stringify(said) };
    try {
      const answer = await fetch(`${base}${what}/${host}`, post);
      return answer.status === 200 ? await answer.json() : answer.ok;
    } catch {
      // there is another look
    }
  };
  const now = () => location.href + document.title;
  const here = async (left) => {
    seenAt = now();
    looked = !left && Date.now(); // a page that is left may be come back to, as it was
    const answer = read().chat && (await send("here", left));
    if (port || !(answer?.unread >= 0)) return;
    label(answer.unread);
    if (answer.unread && !frame) load();
  };

  const open = () => show(true);
  const show = (focus) => {
    if (!frame || !trouble.hidden) load();
    panel.hidden = false;
    bubble.ariaExpanded = true;
    write({ open: 1 });
    if (focus) frame.focus();
    tell({ open: true, focus });
    emit("open");
  };
  const close = () => {
    if (panel.hidden) return;
    const { activeElement } = root;
    panel.hidden = true;
    bubble.ariaExpanded = false;
    write({ open: 0 });
    tell({ open: false });
    if (activeElement) bubble.focus();
    emit("close");
  };
  const toggle = () => (panel.hidden ? open() : close());
  const identify = (said) => {
    proof = said?.id ? `HMAC ${said.hmac} ${said.id}` : said;
    tell({ proof });
  };
  // An answer that was on its way may still bring a secret: `fresh` has the next frame wipe that before it shows anything.
  const end = async (elsewhere) => {
    const forgotten = elsewhere || send("forget");
    const wiped = port && new Promise((done) => (gone = done) && setTimeout(done, STEP));
    tell({ gone: true, elsewhere });
    close();
    clearTimeout(timer);
    label(0);
    memory = { fresh: 1 };
    if (!elsewhere) attempt(() => (localStorage.removeItem(place), localStorage.setItem(place, JSON.stringify(memory))));
    const old = frame;
    frame = port = proof = undefined;
    old?.classList.add("old");
    await wiped;
    old?.remove();
    await forgotten;
  };
  const shutdown = () => end();
  const on = (event, hear) => (heard[event] ||= []).push(hear);
  const calls = { open, close, toggle, identify, shutdown, on };
  const push = (call) => attempt(() => calls[call[0]](...call.slice(1)));
  window.Chatsite = { ...calls, push };

  attempt(() => {
    const sheet = new CSSStyleSheet();
    const side = (position || look[1]) === "left" ? "inline-start" : "inline-end";
    sheet.replaceSync(__STYLE__.replaceAll("SIDE", side).replace("INK", look[2] || "#fff").replace("ACCENT", look[0] || "#4a51c7"));
    root.adoptedStyleSheets = [sheet];
    svg.setAttribute("viewBox", "0 0 32 32");
    path.setAttribute("d", "M8 9h16v11H15l-5 5v-5H8Z");
    svg.append(path);
    bubble.ariaExpanded = false;
    panel.addEventListener("keydown", ({ key }) => key === "Escape" && close());
    root.append(panel, bubble);
    const stay = () => element.isConnected || document.documentElement.append(element); // beside <body>, which may be swapped
    stay();
    if (accent) {
      bubble.style.background = accent; // what is no colour leaves the website's own
      const [, red, green, blue] = /^rgba?\((\d+), (\d+), (\d+)/.exec(getComputedStyle(bubble).backgroundColor) || [];
      bubble.style.color = 0.21 * red ** 2.2 + 0.72 * green ** 2.2 + 0.07 * blue ** 2.2 > 39000 ? "#16161d" : "#fff"; // as assets.py does
    }
    label(0);
    if (read().open) show(false); // the focus stays where the page has it
    here();
    setInterval(() => attempt(() => {
      stay();
      if (document.hidden) looked = 0; // who comes back to this page is on it at once
      else if (now() !== seenAt || Date.now() - looked > LOOK) here();
    }), STEP);
    addEventListener("pagehide", () => here(1));
    const ended = (kept) => attempt(() => JSON.parse(kept).fresh);
    addEventListener("storage", ({ key, newValue, oldValue }) => key === place && ended(newValue) && !ended(oldValue) && end(1));
    early?.forEach?.(push);
  });
})();
