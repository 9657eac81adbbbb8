// How this page keeps the customer's secret where no cookie does, and how it becomes another customer's: chat-keeper.js
// asks for this when it is needed. From then on the secret goes along in a header.
const words = __TEXTS__; // the server puts them in

const keeper = document.querySelector("chat-keeper");
const { headers } = keeper;
let identified = false; // on this page

const offer = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: words.window });
offer.hidden = window === top;
offer.addEventListener("click", () => openWindow(post("code", null), (code) => `${keeper.dataset.alone}#code=${code}`));
keeper.querySelector(".forgetful").append(`${words.forgetful} `, offer);
document.addEventListener("submit", (event) => resume(event));
document.body.addEventListener("htmx:afterSwap", () => showPictures());

function post(name, body, more) {
  return fetch(keeper.address(name), { method: "POST", body, headers: { ...headers, ...more, "HX-Request": "true" } });
}

export async function take(secret) {
  if (secret) await keep(secret);
  else forget();
}

async function keep(secret) {
  if (secret === headers["X-Chat"]) return;
  headers["X-Chat"] = secret;
  const isKept = await keeper.ask({ keep: secret });
  store(isKept ? "" : secret);
  keeper.querySelector(".forgetful").hidden = isKept || keeper.stored() === secret;
  if (!isKept) keeper.tell({ known: true });
}

function forget() {
  const was = headers["X-Chat"];
  delete headers["X-Chat"];
  if (keeper.stored() === was) store("");
  keeper.tell({ keep: "", was });
}

function store(secret) {
  try {
    if (secret) localStorage.setItem(keeper.place, secret);
    else localStorage.removeItem(keeper.place);
  } catch {
    // this browser keeps nothing here
  }
}

export async function recall(secret) {
  if (secret.length >= 64) return; // the page around us says what it likes
  headers["X-Chat"] = secret;
  const isSure = await refresh().catch(() => false);
  if (isSure && keeper.isNew) forget(); // it holds no longer
}

// What we hold is worth nothing any more: this customer has left elsewhere, or come back with another secret.
export async function lose() {
  if (keeper.isNew) return; // it is known already
  keeper.begin(false);
  if (headers["X-Identity"]) await keeper.identify(keeper.proof);
  else forget(), await refresh();
}

// This browser is somebody else's by now, or nobody's. What a verified customer wrote here is theirs all the same.
export async function change() {
  const page = await ask();
  if (!page || markOf(page) === markOf(document)) return; // it is shown by now
  if (!headers["X-Identity"]) document.querySelector("chat-composer")?.abandon();
  show(page);
  if (keeper.isNew) forget();
}

function markOf(page) {
  return page.getElementById("shown-state").value.split(" ")[1];
}

// The page again, as who we are now. What is being written stays.
async function refresh() {
  const page = await ask();
  if (page) show(page);
  return Boolean(page);
}

async function ask() {
  const response = await fetch(location.href, { headers });
  return response.ok && new DOMParser().parseFromString(await response.text(), "text/html");
}

function show(page) {
  for (const id of ["messages", "state", "earlier"]) {
    const part = document.getElementById(id);
    part.replaceChildren(...page.getElementById(id).childNodes);
    [...part.children].forEach((child) => keeper.htmx.process(child)); // never the list itself, which may be asking right now
  }
  askWho(page.querySelector(".who"), document.querySelector(".who"));
  const bell = document.querySelector("door-bell");
  const { socket } = bell;
  showPictures();
  showAnew(); // a bell that waited begins with it, or with keeper.begin()
  const is = !("waits" in page.querySelector("chat-keeper").dataset);
  keeper.begin(is);
  if (is && socket && socket === bell.socket) listenAnew(bell);
  if (!is && bell.begun) waitAnew(bell);
  keeper.count();
}

// It may be known who they are, or asked no more; and of somebody else it is asked anew.
function askWho(asked, before) {
  if (!asked) before?.remove();
  if (!asked || before) return;
  const composer = document.querySelector("chat-composer");
  composer.problem.before(asked);
  asked.querySelectorAll("input").forEach((input) => composer.keep(input));
}

function showAnew() {
  const list = document.querySelector("message-list");
  list.markDays();
  list.toEnd();
  document.dispatchEvent(new CustomEvent("messages-shown", { detail: list.rows }));
}

// The doorbell of another conversation than before.
function listenAnew(bell) {
  const { socket } = bell;
  bell.socket = null;
  socket?.close();
  bell.connect();
}

// There is no conversation any more. The next one may begin here, or in another tab.
function waitAnew(bell) {
  const { socket } = bell;
  bell.socket = null;
  bell.begun = false;
  for (const timer of ["timer", "retry", "silence"]) clearTimeout(bell[timer]);
  socket?.close();
  bell.wait();
}

// The website's own server says who the customer is. Fails where that is to be said once more.
export async function identify() {
  const response = await keeper.settle((more) => post("identify", null, more));
  if (response.status === 429 || response.status >= 500) throw new Error("later");
  if (response.headers.get("X-Another")) document.querySelector("chat-composer")?.abandon();
  if (!response.ok) {
    delete headers["X-Identity"];
    return keeper.tell({ event: "refused", detail: await response.text() });
  }
  keeper.querySelector(".sign-in")?.remove();
  document.querySelector(".who")?.remove();
  const isSame = response.headers.get("X-Same") && (identified || keeper.isNew); // what is being read stays where it is
  identified = true;
  if (!isSame) await refresh();
  keeper.tell({ event: "identified" });
}

// A window that came with a code goes on with the conversation of the one that opened it.
export async function enter() {
  const code = location.hash.slice("#code=".length);
  history.replaceState(null, "", location.pathname + location.search);
  // A code that another page leads here with is none of ours: it would make us somebody else.
  if (!keeper.isNew || !document.referrer.startsWith(`${location.origin}/`)) return;
  const body = new URLSearchParams({ code, window: String(Math.random()) });
  const response = await keeper.settle((more) => post("enter", body, more)).catch(() => null);
  if (response?.ok) await refresh();
  else if (response) say(await response.text());
}

// A window of our own, which knows nothing of this frame. What it needs is asked for: for the chat, which may be remembered
// there, a code that holds once, and for a picture an address; both for a minute.
async function openWindow(asked, place) {
  const view = window.open("about:blank"); // now, while the click counts
  const response = await asked.catch(() => null);
  if (!view) return;
  if (response?.ok) view.location = new URL(place(await response.text()), location.href);
  else view.close();
}

function say(sentence) {
  const line = Object.assign(document.createElement("p"), { className: "notice", textContent: sentence });
  line.setAttribute("role", "alert");
  keeper.prepend(line);
}

// Forms that make us the customer of another conversation, where no cookie does it.
async function resume(event) {
  const form = event.target;
  if (!form.matches("[data-settles]") || !headers["X-Chat"]) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  const response = await fetch(form.action, { method: "POST", body, headers });
  const secret = response.headers.get("X-Secret");
  if (secret) await keep(secret);
  await refresh();
}

// A picture and a link send no header, and a new window not even the cookie of a chat that stands in a page: then we
// fetch what they lead to. A picture that is opened has a window with a policy of its own, not ours.
function showPictures() {
  if (!headers["X-Chat"]) return;
  document.querySelectorAll("#messages img[src]:not([src^=blob])").forEach((picture) => bring(picture, "src"));
}

export async function open(link) {
  if (!link.download) return openWindow(signedAddress(link), (address) => address);
  if (await bring(link, "href")) link.click();
}

function signedAddress({ href }) {
  const address = new URL(href);
  address.pathname += "sign/";
  return fetch(address, { method: "POST", headers });
}

async function bring(element, attribute) {
  if (!element.hasAttribute(attribute)) return false; // it is on its way
  const address = element[attribute];
  element.removeAttribute(attribute); // nothing is asked for without us
  const response = await fetch(address, { headers }).catch(() => null);
  element[attribute] = response?.ok ? URL.createObjectURL(await response.blob()) : address;
  return response?.ok;
}
