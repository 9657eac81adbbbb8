// Files that go with a message, until it is sent: chat-composer.js asks for this when there is the first one.
const MEGABYTE = 1024 ** 2;

// Copies of files: what becomes of the ones on the disk must not stop a message. Folders and what cannot be read are left out.
const copies = async (files) => {
  const copy = (file) => file.arrayBuffer().then((bytes) => new File([bytes], file.name), () => null);
  return (await Promise.all(files.map(copy))).filter(Boolean);
};

export async function attach(composer, chosen) {
  const { most, megabytes } = composer.picker.dataset;
  const large = chosen.find((file) => file.size > megabytes * MEGABYTE);
  if (large) return composer.complain(composer.words.large.replace("{name}", large.name));
  if (composer.files.length + chosen.length > most) return composer.complain(composer.words.several.replace("{n}", most));
  const files = await copies(chosen);
  composer.files = [...composer.files, ...files];
  composer.problem.hidden = true;
  composer.field.focus();
}

// Show files in a list: those of the draft with a button each, to leave it out.
export function show(composer, list, files, isDraft) {
  const chip = (file) => {
    const row = composer.querySelector("template").content.querySelector(".file").cloneNode(true);
    const [name, size, button] = row.children;
    name.textContent = file.name;
    const words = { style: "unit", unit: "megabyte", maximumFractionDigits: 1 };
    size.textContent = Math.max(0.1, file.size / MEGABYTE).toLocaleString(document.documentElement.lang, words);
    button.ariaLabel = composer.words.remove.replace("{name}", file.name);
    button.addEventListener("click", () => remove(composer, file));
    if (!isDraft) button.remove();
    return row;
  };
  list.replaceChildren(...files.map(chip));
}

function remove(composer, file) {
  composer.files = composer.files.filter((other) => other !== file);
  composer.field.focus();
}
