// <activity-folds> in an agent's <message-list> folds three and more activities in a row into one line. The rows stay in the list,
// hidden, so that the page is the same whether they came with it or one by one. Without scripts the server folds them.
const LEAST = 3;

class ActivityFolds extends HTMLElement {
  connectedCallback() {
    this.thread = this.closest("message-list");
    const { list } = this.thread;
    const { signal } = (this.disconnected = new AbortController());
    document.addEventListener("messages-shown", ({ detail }) => detail.length && this.foldFrom(detail[0]), { signal });
    list.addEventListener("htmx:afterSwap", ({ detail }) => detail.requestConfig.elt !== list && this.foldOlder(), { signal });
    this.foldFrom(list.firstElementChild);
  }

  disconnectedCallback() {
    this.disconnected.abort();
  }

  // What is visible stays in place.
  foldOlder() {
    const { thread } = this;
    const { scrollHeight } = thread;
    this.foldFrom(thread.list.firstElementChild);
    if (!thread.pinned) thread.scrollTop += thread.scrollHeight - scrollHeight;
  }

  // Fold the rows from this one to the end, and those before it that belong to the same line.
  foldFrom(row) {
    while (row?.previousElementSibling?.matches(".activity, .activity-fold, [hidden]")) row = row.previousElementSibling;
    let run = [];
    let folds = [];
    const end = () => (this.fold(run, folds), (run = []), (folds = []));
    for (; row; row = row.nextElementSibling) {
      if (row.matches(".activity-fold")) folds.push(row);
      else if (row.matches(".activity")) {
        if (run.length && row.querySelector(".day")) end();
        run.push(row);
      } else if (!row.hidden) end();
    }
    end();
  }

  // `run`: the activities of one line. `folds`: the lines that are among them already.
  fold(run, [fold, ...others]) {
    for (const other of others) other.remove();
    if (run.length < LEAST) {
      fold?.remove();
      return this.show(run, true);
    }
    fold ??= this.newFold();
    const button = fold.querySelector("button");
    if (run.some(({ id }) => id === document.querySelector("found-message")?.dataset.row)) button.setAttribute("aria-expanded", "true");
    button.textContent = this.dataset.words.replace("{n}", run.length.toLocaleString(document.documentElement.lang));
    fold.querySelector(".what").replaceChildren(...run.at(-1).querySelector(".what").cloneNode(true).childNodes); // with its times
    if (run[0].previousElementSibling !== fold) run[0].before(fold);
    fold.querySelector(".day")?.remove(); // the first row may be another one by now
    const day = run[0].querySelector(".day");
    if (day) fold.prepend(day.cloneNode(true));
    button.onclick = () => {
      const isOpen = button.getAttribute("aria-expanded") === "false";
      button.setAttribute("aria-expanded", isOpen);
      this.show(run, isOpen);
    };
    this.show(run, button.getAttribute("aria-expanded") === "true");
  }

  newFold() {
    return this.querySelector("template").content.firstElementChild.cloneNode(true);
  }

  show(run, isShown) {
    for (const row of run) row.classList.toggle("folded", !isShown);
  }
}

customElements.define("activity-folds", ActivityFolds);
