// What a composer does seldom: chat-composer.js asks for it when there is the first file, or when something has gone wrong.
// The server puts the words in.
const words = __TEXTS__;
const MEGABYTE = 1024 ** 2;
const UNITS = ["byte", "kilobyte", "megabyte"];
const language = document.documentElement.lang;

const chip = document.createElement("template");
chip.innerHTML = `<li class="file"><span class="name"></span> <span class="size"></span><button type="button" class="quiet">
  <svg viewBox="0 0 24 24" width="16" height="16" aria-hidden="true"><path d="m6 6 12 12M18 6 6 18"/></svg></button></li>`;

// Copies of files: what becomes of the ones on the disk must not stop a message. Folders and what cannot be read are left out.
const copies = async (files) => {
  const copy = (file) => file.arrayBuffer().then((bytes) => new File([bytes], file.name), () => null);
  return (await Promise.all(files.map(copy))).filter(Boolean);
};

const isLarge = (file, megabytes) => file.size > megabytes * MEGABYTE;

// What can be sent is attached, whatever is chosen with it.
export async function attach(composer, chosen) {
  const { most, megabytes } = composer.picker.dataset;
  const large = chosen.find((file) => isLarge(file, megabytes));
  const fit = chosen.filter((file) => !isLarge(file, megabytes));
  if (composer.files.length + fit.length > most) return composer.complain(words.several.replace("{n}", most));
  const files = await copies(fit);
  const empty = files.find((file) => !file.size); // not before it is read: a folder looks empty too
  composer.files = [...composer.files, ...files.filter((file) => file.size)];
  composer.problem.hidden = true;
  if (empty) composer.complain(words.empty.replace("%(name)s", () => empty.name));
  if (large) composer.complain(words.large.replace("{name}", () => large.name).replace("%(most)s", megabytes));
  composer.field.focus();
}

// Show files in a list: those of the draft with a button each, to leave it out.
export function show(composer, list, files, isDraft) {
  const row = (file) => {
    const row = chip.content.firstElementChild.cloneNode(true);
    const [name, size, button] = row.children;
    name.textContent = file.name;
    size.textContent = sizeOf(file);
    button.ariaLabel = words.remove.replace("{name}", file.name);
    button.addEventListener("click", () => remove(composer, file));
    if (!isDraft) button.remove();
    return row;
  };
  list.replaceChildren(...files.map(row));
}

// Nearly as the server says it once the file is sent.
function sizeOf({ size }) {
  const step = size < 1024 ? 0 : size < MEGABYTE ? 1 : 2;
  const unit = { style: "unit", unit: UNITS[step], unitDisplay: step ? "short" : "long", maximumFractionDigits: 1 };
  return (size / 1024 ** step).toLocaleString(language, unit);
}

function remove(composer, file) {
  composer.files = composer.files.filter((other) => other !== file);
  composer.field.focus();
}

// By then it may have become shorter.
export function tooLong(composer, most) {
  const more = [...composer.field.value].length - most;
  const [over, parts] = [more, most].map((number) => number.toLocaleString(language));
  if (composer.tooLong) composer.complain(words.long.replace("{n}", over).replace("{most}", parts));
}

export function tooMany(composer, item, seconds) {
  const when = new Intl.RelativeTimeFormat(language).format(Math.ceil(seconds / 60), "minute");
  if (item.failed) composer.say(item, words.many.replace("{when}", when), true);
}

// The server does not take it as it is. It says why.
export async function refuse(composer, item, response) {
  const isSaid = response.headers.get("Content-Type")?.startsWith("text/plain");
  const sentence = isSaid && (await response.text().catch(() => ""));
  giveUp(composer, item, sentence || words.refused);
  return true;
}

// Its files are gone with the page that had them.
export function lose(composer, item) {
  giveUp(composer, item, words.lost);
  item.row.querySelector("button").hidden = true; // there is nothing to try again with
}

function giveUp(composer, item, sentence) {
  item.refused = true;
  composer.say(item, `${words.unsent} ${sentence}`, true);
  const retry = item.row.querySelector("button");
  const change = Object.assign(retry.cloneNode(), { textContent: words.edit });
  change.addEventListener("click", () => edit(composer, item));
  retry.after(" ", change);
  retry.addEventListener("click", () => change.remove(), { once: true });
}

function edit(composer, item) {
  if (item.files.length) composer.files = [...composer.files, ...item.files];
  composer.drop(item);
  composer.field.value = [item.text, composer.field.value].filter(Boolean).join("\n");
  composer.typed();
  composer.field.focus();
}
