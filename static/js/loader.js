// The chat on a website: a launcher, and the panel that it opens. Nothing is requested before the panel opens, unless this
// customer has written before. No error in this script may disturb the page.
(() => {
  // An element whose name or id is a property of document hides that property (DOM clobbering), and a website may show HTML
  // that its users have written. So the document is read only through native().
  const native = (name) => Reflect.get(Document.prototype, name, document);
  const script = document.currentScript; // not native(): tools that defer scripts override this property
  const queue = (Object.hasOwn(window, "Chatsite") && window.Chatsite) || [];
  if (!Array.isArray(queue) || !(script instanceof HTMLScriptElement)) return; // no array: this script is loaded already

  const server = new URL(script.src).origin;
  const { website, accent, position, language } = script.dataset;
  const key = website || __KEY__; // __KEY__ is the key in this script's URL, or "default"
  const look = __APPEARANCE__[key] || __OTHER__; // __OTHER__ is false if the website is known not to list this origin
  const explain = () => import(`${server}/chat.js?refused=${key}`).catch(() => {}); // loader-refused.js logs what is wrong
  if (!look || origin === "null") return explain();
  const [colour = "#4a51c7", usualPosition, textColour = "#fff"] = look;
  const [chatText, unreachableText, closeText] = __TEXTS__;
  const base = `${server}/chat/${key === "default" ? "" : `${key}/`}`;
  const query = `?host=${location.origin === "null" ? origin : location.origin}`; // about:srcdoc has the origin of the page around it
  const storageKey = `chatsite ${key}`;

  let memory = {};
  const read = () => attempt(() => JSON.parse(localStorage[storageKey])) || memory;
  const write = (changes) => {
    memory = { ...read(), ...changes };
    return !!attempt(() => (localStorage[storageKey] = JSON.stringify(memory)));
  };

  const listeners = {}; // by event
  const emit = (event, detail) => listeners[event]?.forEach((listener) => attempt(() => listener(detail)));
  const attempt = (action) => {
    try {
      return action();
    } catch {
      // errors must not disturb the page
    }
  };

  const make = (name, properties, ...children) => {
    const element = Object.assign(native("createElement").call(document, name), properties);
    element.append(...children);
    return element;
  };
  const host = make("div");
  const root = host.attachShadow({ mode: "open" });
  const badge = make("span", { className: "badge" });
  const launcher = make("button", { className: "launcher", ariaExpanded: false, onclick: () => toggle() }, badge);
  const panel = make(
    "div",
    { className: "panel", hidden: true, tabIndex: -1, onkeydown: ({ key }) => { if (key === "Escape") close(); } },
    make("p", { textContent: unreachableText }),
    make("button", { textContent: closeText, onclick: () => close() }),
  );
  let frame, port, timer, proof, reportedPage, reportedAt, frameWiped;

  const post = (message) => port?.postMessage(message);

  const showUnread = (unread) => {
    badge.textContent = unread > 9 ? "9+" : unread || "";
    launcher.title = launcher.ariaLabel = unread ? `${chatText} (${unread})` : chatText; // Firefox has ariaLabel since 119
    emit("unread", unread);
  };

  const load = async () => {
    frame?.remove();
    const loading = (frame = make("iframe", { title: chatText }));
    waitFor(10000);
    panel.append(loading);
    // After a sign-out, a late response may have stored a secret: invalidate it before anything is shown.
    if (read().fresh && (await request("forget")) === false) return waitFor(0);
    loading.onload = () => {
      const { port1, port2 } = new MessageChannel();
      // A frame that was replaced may only report that it has deleted its data.
      port1.onmessage = ({ data }) => attempt(() => (loading === frame ? receive(data, port1) : data.gone && frameWiped()));
      loading.contentWindow?.postMessage("chatsite", server, [port2]); // to no other origin
      if (loading === frame) waitFor(1500); // loaded, but the chat has not responded yet
    };
    loading.src = base + query + (language ? `&language=${language}` : "");
  };
  // Until the chat says that it is ready, the frame is invisible: it may have the browser's own error page. On a phone, the
  // launcher closes the panel meanwhile. An invisible frame cannot have the focus, so the panel has it.
  const waitFor = (time) => {
    port = null;
    if (root.activeElement === frame) panel.focus();
    panel.className = "panel";
    clearTimeout(timer);
    timer = setTimeout(() => explain((panel.className = "panel lost")), time);
  };

  const receive = (message, from) => {
    if (message.ready) {
      clearTimeout(timer);
      const focus = root.activeElement === panel;
      panel.className = "panel ready";
      if (focus) frame.focus();
      port = from;
      const { chat, seen = 0, fresh } = read();
      write({ fresh: 0 });
      post({ hello: true, fresh, chat, seen, open: !panel.hidden, focus, proof });
    }
    if (message.known) write({ chat: read().chat || 1 }), report();
    if (message.keep === "" && [message.was, 1].includes(read().chat)) write({ chat: 0, seen: 0 });
    if (message.keep) post({ answer: write({ chat: message.keep }) }), report();
    if (message.recall) post({ answer: read().chat });
    if (message.seen) write({ seen: message.seen });
    if ("unread" in message) showUnread(message.unread);
    if (message.close) close();
    if (message.event) emit(message.event, message.detail);
  };

  const request = async (name, left) => {
    const report = { ...read(), url: location.href, title: native("title"), referrer: native("referrer"), language, zone: Intl.DateTimeFormat().resolvedOptions().timeZone, left };
    const options = { method: "POST", credentials: "include", keepalive: true, body: JSON.stringify(report) };
    try {
      const response = await fetch(`${base}${name}/${query}`, options);
      return response.status === 200 ? await response.json() : response.ok;
    } catch {
      // the next report is the retry
    }
  };
  const currentPage = () => location.href + native("title");
  // Tell the server which page the customer is on or has left. The response has the number of unread messages.
  const report = async (left) => {
    reportedPage = currentPage();
    reportedAt = !left && Date.now(); // the browser may restore the page from its back/forward cache
    const answer = read().chat && (await request("here", left));
    if (port || !(answer?.unread >= 0)) return;
    showUnread(answer.unread);
    if (answer.unread && !frame) load();
  };

  const show = (focus) => {
    if (!frame || panel.className === "panel lost") load();
    switchTo(true, focus);
    if (focus) (port ? frame : panel).focus();
  };
  const switchTo = (open, focus) => {
    panel.hidden = !open;
    launcher.ariaExpanded = open;
    write({ open: +open });
    post({ open, focus });
    emit(open ? "open" : "close");
  };
  const close = () => {
    if (panel.hidden) return;
    const { activeElement } = root;
    switchTo(false);
    if (activeElement) launcher.focus();
  };
  const toggle = () => (panel.hidden ? show(true) : close());
  const identify = (identity) => {
    proof = identity?.id ? `HMAC ${identity.hmac} ${identity.id}` : identity;
    post({ proof });
  };
  // A late response may still store a secret: `fresh` makes the next frame delete it before it shows anything.
  const end = async (elsewhere) => {
    const forgotten = elsewhere || request("forget");
    const wiped = port && new Promise((done) => (frameWiped = done) && setTimeout(done, 3000));
    post({ gone: true, elsewhere });
    close();
    clearTimeout(timer);
    showUnread(0);
    memory = { fresh: 1 };
    if (!elsewhere) attempt(() => delete localStorage[storageKey]), write();
    const old = frame;
    frame = port = proof = undefined;
    if (old) old.hidden = true;
    await wiped;
    old?.remove();
    await forgotten;
  };
  const api = { open: () => show(true), close, toggle, identify, shutdown: () => end(), on: (event, listener) => (listeners[event] ||= []).push(listener) };
  const push = (call) => attempt(() => api[call[0]](...call.slice(1)));
  window.Chatsite = { ...api, push };

  attempt(() => {
    const side = (position || usualPosition) === "left" ? "start" : "end";
    const style = make("style", { nonce: script.nonce, textContent: `__STYLE__` }); // uses side, colour and textColour
    root.append(panel, launcher);
    const attach = () => host.isConnected || native("documentElement").append(host); // not to <body>, which may be replaced
    attach();
    try {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(style.textContent);
      root.adoptedStyleSheets = [sheet];
    } catch {
      // Safari before 16.4
      root.append(style);
    }
    if (accent) {
      launcher.style.background = accent; // an invalid colour changes nothing
      const [red, green, blue] = getComputedStyle(launcher).backgroundColor.match(/[\d.]+/g); // rgb(1, 2, 3)
      launcher.style.color = 0.2 * red * red + 0.7 * green * green + 0.1 * blue * blue > 12000 ? "#16161d" : "#fff"; // much as assets.py does
    }
    showUnread(0);
    if (read().open) show(false); // without taking the focus
    report();
    setInterval(() => attempt(() => {
      attach();
      if (native("hidden")) reportedAt = 0; // report at once when the customer returns to this tab
      else if (currentPage() !== reportedPage || Date.now() - reportedAt > 60000) report();
    }), 3000); // the URL or the title of the page may have changed
    addEventListener("pagehide", () => report(1));
    const isSignedOut = (stored) => /"fresh":1/.test(stored);
    addEventListener("storage", ({ key, newValue, oldValue }) => key === storageKey && isSignedOut(newValue) && !isSignedOut(oldValue) && end(1));
    queue.forEach(push);
  });
})();
