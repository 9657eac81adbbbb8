// Gets, stores and deletes the customer's secret in browsers that block cookies, and shows another
// conversation. chat-keeper.js loads this when it is needed.
const texts = __TEXTS__; // the server inserts them
const OTHER_TAB_DELAY = 2000; // milliseconds until another tab has stored the new secret

const keeper = document.querySelector("chat-keeper");
const { headers } = keeper;
let identified = false; // whether the customer was identified on this page
let identifying; // the promise of the last identification

const windowButton = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: texts.window });
windowButton.hidden = window === top;
windowButton.addEventListener("click", () => openWindow(post("code", null), (code) => `${keeper.dataset.standaloneUrl}#code=${code}`));
keeper.querySelector(".not-remembered").append(`${texts.not_remembered} `, windowButton);
document.addEventListener("submit", (event) => resume(event));
document.body.addEventListener("htmx:afterSwap", () => fetchPictures());

function post(name, body, more) {
  return fetch(keeper.url(name), { method: "POST", body, headers: { ...headers, ...more, "HX-Request": "true" } });
}

export async function takeSecret(secret) {
  if (secret) await keepSecret(secret);
  else forgetSecret();
}

async function keepSecret(secret) {
  if (secret === headers["X-Chat"]) return;
  headers["X-Chat"] = secret;
  const isKept = await keeper.askHost({ keep: secret });
  store(isKept ? "" : secret);
  keeper.querySelector(".not-remembered").hidden = isKept || keeper.stored === secret;
  if (!isKept) keeper.tellHost({ known: true });
}

function forgetSecret() {
  const was = headers["X-Chat"];
  delete headers["X-Chat"];
  if (keeper.stored === was) store("");
  keeper.tellHost({ keep: "", was });
}

function store(secret) {
  try {
    if (secret) localStorage.setItem(keeper.storageKey, secret);
    else localStorage.removeItem(keeper.storageKey);
  } catch {
    // there is no storage
  }
}

export async function recall(secret) {
  if (secret.length >= 64) return; // not a secret: the page around the chat may send anything
  headers["X-Chat"] = secret;
  const isLoaded = await refresh().catch(() => false);
  if (isLoaded && keeper.isNew) forgetSecret(); // the secret is not valid
}

// Our secret is not valid any more. Either this customer was just identified, here or in another tab, and the same
// conversation has a new secret; or they have signed out elsewhere.
export async function secretRenewed() {
  await identifying?.catch(() => null);
  if (keeper.isNew) return; // the page shows that already
  let page = await fetchPage();
  if (page && !shownIn(page) && !headers["X-Identity"]) {
    await new Promise((done) => setTimeout(done, OTHER_TAB_DELAY));
    const secret = keeper.stored || (headers["X-Chat"] && (await keeper.askHost({ recall: true })));
    if (typeof secret === "string" && secret.length < 64) headers["X-Chat"] = secret;
    page = await fetchPage();
  }
  if (!page || shownIn(page) === shownIn(document)) return;
  if (headers["X-Identity"]) return keeper.identify(keeper.proof);
  forgetSecret();
  await refresh();
}

// This browser now has another conversation, or none. Unsent messages of an identified customer are kept.
export async function conversationChanged() {
  const page = await fetchPage();
  if (!page || shownIn(page) === shownIn(document)) return;
  if (!headers["X-Identity"]) document.querySelector("chat-composer")?.abandon();
  show(page);
  if (keeper.isNew) forgetSecret();
}

// The number of the conversation that a page shows, undefined for none.
function shownIn(page) {
  return page.getElementById("shown-state").value.split(" ")[1];
}

// Fetch the page and show what has changed, such as another conversation. The draft stays.
async function refresh() {
  const page = await fetchPage();
  if (page) show(page);
  return Boolean(page);
}

async function fetchPage() {
  const response = await fetch(location.href, { headers });
  return response.ok && new DOMParser().parseFromString(await response.text(), "text/html");
}

function show(page) {
  allowWriting(!page.querySelector(".sign-in:not([hidden])"));
  const bell = document.querySelector("door-bell");
  if (shownIn(page) && shownIn(page) === shownIn(document)) {
    const list = document.querySelector("message-list");
    const { scrollHeight } = list;
    replace("earlier", page);
    list.scrollTop += list.scrollHeight - scrollHeight; // keep the visible messages in place
    return reconnect(bell);
  }
  ["messages", "state", "earlier"].forEach((id) => replace(id, page));
  updateContactFields(page.querySelector(".who"), document.querySelector(".who"));
  const { socket } = bell;
  fetchPictures();
  announceMessages(); // this, or keeper.begin(), starts a waiting doorbell
  const begun = !("waits" in page.querySelector("chat-keeper").dataset);
  keeper.begin(begun);
  if (begun && socket && socket === bell.socket) reconnect(bell);
  if (!begun && bell.begun) stop(bell);
  keeper.countUnread();
}

function replace(id, page) {
  const part = document.getElementById(id);
  part.replaceChildren(...page.getElementById(id).childNodes);
  [...part.children].forEach((child) => keeper.htmx.process(child)); // not the list itself, which may have a request in flight
}

// Show or remove the fields for name and e-mail, as the new page does.
function updateContactFields(fields, before) {
  if (!fields) before?.remove();
  if (!fields || before) return;
  const composer = document.querySelector("chat-composer");
  composer.problem.before(fields);
  fields.querySelectorAll("input").forEach((input) => composer.storeInput(input));
}

function announceMessages() {
  const list = document.querySelector("message-list");
  list.markDays();
  list.toEnd();
  document.dispatchEvent(new CustomEvent("messages-shown", { detail: list.rows }));
}

// Open the doorbell's socket again, with the secret that we have now.
function reconnect(bell) {
  bell.drop();
  bell.connect();
}

// There is no conversation any more. The next one may begin here, or in another tab.
function stop(bell) {
  bell.drop();
  bell.begun = false;
  for (const timer of ["timer", "retry", "silence"]) clearTimeout(bell[timer]);
  bell.wait();
}

// Send the website's identity proof to the server. Rejects if it has to be sent again.
export function identify() {
  return (identifying = sendProof());
}

async function sendProof() {
  const response = await keeper.obtainSecret((more) => post("identify", null, more));
  if (response.status === 429 || response.status >= 500) throw new Error("later");
  if (response.headers.get("X-Another")) document.querySelector("chat-composer")?.abandon();
  if (!response.ok) {
    delete headers["X-Identity"];
    allowWriting(false);
    return keeper.tellHost({ event: "refused", detail: await response.text() });
  }
  allowWriting(true);
  document.querySelector(".who")?.remove();
  const isSame = response.headers.get("X-Same") && (identified || keeper.isNew); // the page is up to date
  identified = true;
  if (!isSame) await refresh();
  keeper.tellHost({ event: "identified" });
}

// The server has refused a message without a valid proof. Send ours again: it may be newer than the message.
export function messageRefused() {
  if (headers["X-Identity"]) return keeper.identify(keeper.proof);
  allowWriting(false);
}

// Show the composer or, on a website that requires a proof, the sentence that asks for it. The draft stays. Our own
// greeting asks for a message, so it is hidden too; a website's own greeting stays.
function allowWriting(isAllowed) {
  const sentence = keeper.querySelector(".sign-in");
  const composer = document.querySelector("chat-composer");
  if (!sentence) return;
  sentence.hidden = isAllowed;
  const greeting = document.querySelector(".greeting p + p"); // no :has(), which Firefox before 121 refuses with an error
  if (greeting && !greeting.querySelector("bdi")) greeting.hidden = !isAllowed;
  if (!composer) return;
  composer.hidden = !isAllowed;
  composer.resize?.(); // a hidden field has no height
}

// Open the conversation of the window that opened this one, by the code in the URL.
export async function enter() {
  const code = location.hash.slice("#code=".length);
  history.replaceState(null, "", location.pathname + location.search);
  // Accept a code only from a chat page: another site's code would open that site's own conversation here.
  if (!keeper.isNew || !document.referrer.startsWith(`${location.origin}/chat/`)) return;
  const body = new URLSearchParams({ code, window: String(Math.random()) });
  const response = await keeper.obtainSecret((more) => post("enter", body, more)).catch(() => null);
  if (response?.ok) await refresh();
  else if (response) showNotice(await response.text());
}

// A new window gets neither the frame's cookie nor its storage. Fetch a code or a signed URL for it, valid for a minute.
async function openWindow(request, urlOf) {
  const view = window.open("about:blank"); // before the request: browsers allow it only during a click
  const response = await request.catch(() => null);
  if (!view) return;
  if (response?.ok) view.location = new URL(urlOf(await response.text()), location.href);
  else view.close();
}

function showNotice(text) {
  const notice = Object.assign(document.createElement("p"), { className: "notice", textContent: text });
  notice.setAttribute("role", "alert");
  keeper.prepend(notice);
}

// Open an earlier conversation. A form alone could not send the proof.
async function resume(event) {
  const form = event.target;
  if (!form.matches("[data-resume]")) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  const response = await fetch(form.action, { method: "POST", body, headers }).catch(() => null); // the customer can click again
  if (!response?.ok) return;
  await keeper.takeSecret(response);
  await refresh();
}

// The browser loads pictures without our header. If the secret is sent in a header, fetch them by script.
function fetchPictures() {
  if (!headers["X-Chat"]) return;
  document.querySelectorAll("#messages img[src]:not([src^=blob])").forEach((picture) => fetchInto(picture, "src"));
}

export async function openFile(link) {
  if (!link.download) return openWindow(signUrl(link), (url) => url);
  if (await fetchInto(link, "href")) link.click();
}

function signUrl({ href }) {
  const url = new URL(href);
  url.pathname += "sign/";
  return fetch(url, { method: "POST", headers });
}

async function fetchInto(element, attribute) {
  if (!element.hasAttribute(attribute)) return false; // it is being fetched
  const url = element[attribute];
  element.removeAttribute(attribute); // the browser itself must not request it
  const response = await fetch(url, { headers }).catch(() => null);
  element[attribute] = response?.ok ? URL.createObjectURL(await response.blob()) : url;
  return response?.ok;
}
