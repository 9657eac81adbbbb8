// What is only true now, on the customer's page: who is typing; and what the other side has seen of the last message, where the website
// shows that. door-bell.js loads this once there is a conversation.
const texts = __TEXTS__; // the server inserts them
const GLANCE = 500; // milliseconds for which a message is shown before it counts as seen

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
  if (found) {
    receipt = Object.assign(document.createElement("seen-line"), { className: "when" });
    receipt.style.cssText = "display: block; text-align: end";
    receipt.append(...found.childNodes);
    line.before(receipt);
    found.remove();
  }
}

// Tell the server once that the customer has seen an answer: the page and its frame are visible, and the list is at its end.
async function report() {
  const { newest, last, atEnd } = list;
  const shows = document.querySelector("#shown-state").hasAttribute("data-receipts");
  const keeper = document.querySelector("chat-keeper");
  if (!shows || document.hidden || !keeper.open || !atEnd || last <= reported || !newest?.matches(".theirs")) return;
  const before = reported;
  reported = last;
  const body = new URLSearchParams({ seen: last });
  const response = await fetch(state.getAttribute("hx-get"), { method: "POST", headers: keeper.headers, body }).catch(() => null);
  if (!response?.ok) reported = before; // the next poll tries again
}

const reportSoon = () => setTimeout(report, GLANCE);
column.append(line);
moveReceipt();
reportSoon();
state.addEventListener("htmx:afterSwap", moveReceipt);
list.addEventListener("seen", reportSoon);
document.body.addEventListener("ring", reportSoon);
document.addEventListener("visibilitychange", reportSoon);
