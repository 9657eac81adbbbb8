// <time-ago> shows its <time> as what has passed since then, in a list where that is soon another. <time-there data-zone>
// shows in its <time> what the clock says in another time zone.
const LocalTime = customElements.get("local-time");
const short = new Intl.DateTimeFormat(LocalTime.language, { day: "numeric", month: "short" });
const minute = new Intl.NumberFormat(LocalTime.language, { style: "unit", unit: "minute" });
const relative = new Intl.RelativeTimeFormat(LocalTime.language, { numeric: "auto" });

class TimeAgo extends LocalTime {
  words(moment) {
    const minutes = Math.floor((Date.now() - moment) / 60000);
    if (minutes < 1) return relative.format(0, "second");
    if (minutes < 60) return minute.format(minutes);
    return moment.toDateString() === new Date().toDateString() ? super.words(moment) : short.format(moment);
  }
}

class TimeThere extends HTMLElement {
  connectedCallback() {
    this.show();
  }

  show() {
    try {
      const clock = new Intl.DateTimeFormat(LocalTime.language, { timeStyle: "short", timeZone: this.dataset.zone });
      this.querySelector("time").textContent = clock.format(Date.now());
    } catch {
      // a zone that this browser does not know: what the server has written stays
    }
  }
}

customElements.define("time-ago", TimeAgo);
customElements.define("time-there", TimeThere);

// Twice a minute: as it changes, and in the middle of it.
function tick() {
  document.querySelectorAll("time-ago, time-there").forEach((element) => element.show());
  setTimeout(tick, 30000 - (Date.now() % 30000));
}

tick();
