// Files and error messages of the composer: chat-composer.js loads this with the first file or error.
const texts = __TEXTS__; // the server inserts them
const MEGABYTE = 1024 ** 2;
const UNITS = ["byte", "kilobyte", "megabyte"];
const language = document.documentElement.lang;

const chip = document.createElement("template");
chip.innerHTML = `<li class="file"><span class="name"></span> <span class="size"></span><button type="button" class="quiet">
  <svg viewBox="0 0 24 24" width="16" height="16" aria-hidden="true"><path d="m6 6 12 12M18 6 6 18"/></svg></button></li>`;

// Copy files into memory: a file that changes on the disk could not be sent. Folders and unreadable files are left out.
const copies = async (files) => {
  const copy = (file) => file.arrayBuffer().then((bytes) => new File([bytes], file.name), () => null);
  return (await Promise.all(files.map(copy))).filter(Boolean);
};

const isLarge = (file, megabytes) => file.size > megabytes * MEGABYTE;

// The last part of a path or of a file:// address.
function fileName(path) {
  try {
    if (path.startsWith("file:")) path = decodeURIComponent(path);
  } catch {
    // a lone % in a name
  }
  return path.split(/[\\/]/).pop().normalize();
}

// Whether a pasted text is only the names or paths of the pasted files, one a line. Older versions of Nautilus put a header line before them.
function isNames(text, files) {
  const names = files.map(({ name }) => name.normalize());
  const isName = (line) => names.includes(fileName(line)) || /^(x-special\/.*|copy|cut|)$/.test(line);
  return text.split(/[\r\n\0]+/).every(isName);
}

// Attach those of the chosen files that can be sent. If they were pasted with a text of its own, type that instead.
export async function attach(composer, chosen, text = "") {
  if (!isNames(text, chosen)) return document.execCommand("insertText", false, text); // can be undone with Ctrl+Z
  const { most, megabytes } = composer.picker.dataset;
  const large = chosen.find((file) => isLarge(file, megabytes));
  const fit = chosen.filter((file) => !isLarge(file, megabytes));
  if (composer.files.length + fit.length > most) return composer.showProblem(texts.several.replace("{n}", most));
  const files = await copies(fit);
  const empty = files.find((file) => !file.size); // after reading, because a folder looks empty too
  composer.files = [...composer.files, ...files.filter((file) => file.size)];
  composer.problem.hidden = true;
  if (empty) composer.showProblem(texts.empty.replace("%(name)s", () => empty.name));
  if (large) composer.showProblem(texts.large.replace("{name}", () => large.name).replace("%(most)s", megabytes));
  composer.field.focus();
}

// Show files in a list; files of the draft have a button to remove them.
export function showFiles(composer, list, files, isDraft) {
  const row = (file) => {
    const row = chip.content.firstElementChild.cloneNode(true);
    const [name, size, button] = row.children;
    name.textContent = file.name;
    size.textContent = formatSize(file);
    button.setAttribute("aria-label", texts.remove.replace("{name}", file.name));
    button.addEventListener("click", () => removeFile(composer, file));
    if (!isDraft) button.remove();
    return row;
  };
  list.replaceChildren(...files.map(row));
}

// Similar to Django's `filesizeformat`.
function formatSize({ size }) {
  const step = size < 1024 ? 0 : size < MEGABYTE ? 1 : 2;
  const unit = { style: "unit", unit: UNITS[step], unitDisplay: step ? "short" : "long", maximumFractionDigits: 1 };
  return (size / 1024 ** step).toLocaleString(language, unit);
}

function removeFile(composer, file) {
  composer.files = composer.files.filter((other) => other !== file);
  composer.field.focus();
}

// Show how much too long the text is, unless it has been shortened while this module was loading.
export function warnTooLong(composer, most) {
  const more = [...composer.field.value].length - most;
  const [over, parts] = [more, most].map((number) => number.toLocaleString(language));
  if (composer.tooLong) composer.showProblem(texts.long.replace("{n}", over).replace("{most}", parts));
}

export function showRateLimit(composer, item, seconds) {
  const when = new Intl.RelativeTimeFormat(language).format(Math.ceil(seconds / 60), "minute");
  if (item.failed) composer.setStatus(item, texts.many.replace("{when}", when), true);
}

// The server has refused the message, and says why.
export async function markRefused(composer, item, response) {
  const hasText = response.headers.get("Content-Type")?.startsWith("text/plain");
  const text = hasText && (await response.text().catch(() => ""));
  const change = markUnsent(composer, item, `${texts.unsent} ${text || texts.refused}`);
  composer.dispatchEvent(new CustomEvent("refused", { bubbles: true, detail: { item, response, change } }));
  if (response.status === 401) document.querySelector("chat-keeper")?.lazy("messageRefused").catch(() => null); // the next refused message retries this
  return true;
}

// The files were lost when the page was reloaded.
export function markFilesLost(composer, item) {
  markUnsent(composer, item, `${texts.unsent} ${texts.lost}`);
  item.row.querySelector("button").hidden = true; // without its files, the message cannot be sent again
}

// The database was restored from a backup. Send pending messages again, also those that the server had acknowledged.
// Offer to send shown messages again that are gone: `before` are the rows until now.
export function offerLost(composer, before) {
  const { rows } = document.querySelector("message-list");
  const oldest = Number(rows[0].dataset.id);
  const shown = new Set(rows.map((row) => row.dataset.clientId));
  for (const item of composer.items) item.id = undefined; // the server ignores a message whose client_id it still has
  for (const row of before) {
    const { id, clientId } = row.dataset;
    const bubble = row.querySelector(".bubble");
    const text = bubble?.dataset.text ?? bubble?.textContent;
    if (!clientId || !text || shown.has(clientId) || id < oldest) continue;
    markUnsent(composer, composer.addPending(clientId, text), texts.restored);
  }
  composer.flush();
}

function markUnsent(composer, item, text) {
  item.refused = true;
  composer.setStatus(item, text, true);
  const retry = item.row.querySelector("button");
  const change = Object.assign(retry.cloneNode(), { textContent: texts.edit });
  change.addEventListener("click", () => edit(composer, item));
  retry.after(" ", change);
  retry.addEventListener("click", () => change.remove(), { once: true });
  return change;
}

function edit(composer, item) {
  if (item.files.length) composer.files = [...composer.files, ...item.files];
  composer.removePending(item);
  composer.field.value = [item.text, composer.field.value].filter(Boolean).join("\n");
  composer.onInput();
  composer.field.focus();
}
