// What is only true now, on the customer's page: who is typing; and what the other side has seen of the last message, where the website
// shows that; the sound of an answer; and the dates of messages. door-bell.js loads this once there is a conversation.
const texts = __TEXTS__; // the server inserts them
const GLANCE = 500; // milliseconds for which a message is shown before it counts as seen

const HESITATION = 500; // milliseconds before a sound: another tab may show the answer
const SOUND = "chatsite-sound"; // the newest answer for which a tab without locks has played one
const ONE_SOUND = 1500; // milliseconds for which the other tabs stay silent

const list = document.querySelector("message-list");
const column = document.querySelector(".column");
const state = document.querySelector("#state");
const line = document.createElement("typing-line");
line.dataset.words = texts.typing;
let receipt, reported = 0;

// The server's line stands above the composer, for browsers without JavaScript. It belongs below the message.
function moveReceipt() {
  const found = state.querySelector("#receipt");
  receipt?.remove();
  if (!found) return;
  found.hidden = true;
  receipt = Object.assign(document.createElement("seen-line"), { className: "when" });
  receipt.style.cssText = "display: block; text-align: end";
  receipt.append(...found.cloneNode(true).childNodes);
  line.before(receipt);
}

// Tell the server once that the customer has seen an answer: the page and its frame are visible, and the list is at its end.
async function report() {
  const { newest, last, atEnd } = list;
  const shows = document.querySelector("#shown-state").hasAttribute("data-receipts");
  const keeper = document.querySelector("chat-keeper");
  if (!shows || document.hidden || !keeper.open || !atEnd || last === reported || !newest?.matches(".theirs")) return;
  const before = reported;
  reported = last;
  const body = new URLSearchParams({ seen: last });
  const response = await fetch(state.getAttribute("hx-get"), { method: "POST", headers: keeper.headers, body }).catch(() => null);
  if (!response?.ok) reported = before; // the next poll tries again
}

// The sound of an answer that the customer does not see. Of several tabs, one plays it, and none if one of them shows the answer.
let heard = list.last;
function hear({ detail: rows }) {
  const newest = Math.max(heard, ...rows.filter((row) => row.matches(".theirs")).map((row) => Number(row.dataset.id)));
  const { sounds } = document.querySelector("#shown-state").dataset;
  if (newest === heard || !sounds) return;
  heard = newest;
  const sees = document.querySelector("chat-keeper").open && !document.hidden;
  const play = async () => sees || (await import(sounds)).play("drop");
  const once = (lock) => lock && play().then(() => new Promise((done) => setTimeout(done, ONE_SOUND)));
  if (navigator.locks) setTimeout(() => navigator.locks.request("chat-sound", { ifAvailable: true }, once), sees ? 0 : HESITATION);
  else setTimeout(() => claim(newest) && play(), sees ? 0 : HESITATION * (1 + Math.random())); // not all at the same moment
}

// Without locks, the first tab writes down for the others which answer it has played or shown.
function claim(newest) {
  try {
    if (Number(localStorage.getItem(SOUND)) >= newest) return false;
    localStorage.setItem(SOUND, newest);
  } catch {
    // there is no storage
  }
  return true;
}

// Where no pointer can hover, a tap on a time shows its date, and another one the time again.
list.addEventListener("click", ({ target }) => {
  const time = target.closest(".when time");
  if (time?.title) [time.textContent, time.title] = [time.title, time.textContent];
});

const reportSoon = () => setTimeout(report, GLANCE);
column.append(line);
moveReceipt();
reportSoon();
new MutationObserver(moveReceipt).observe(state, { childList: true });
list.addEventListener("seen", reportSoon);
document.body.addEventListener("ring", reportSoon);
document.addEventListener("messages-shown", hear);
document.addEventListener("visibilitychange", reportSoon);
