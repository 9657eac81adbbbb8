// <time-ago> shows how long ago its <time> was. <time-there data-zone> shows the current time in another time zone.
await afterPaint();
const LocalTime = customElements.get("local-time");
const timeZone = document.documentElement.dataset.zone;
const short = new Intl.DateTimeFormat(LocalTime.language, { day: "numeric", month: "short", timeZone });
const date = new Intl.DateTimeFormat("sv", { timeZone });
const minute = new Intl.NumberFormat(LocalTime.language, { style: "unit", unit: "minute" });
const relative = new Intl.RelativeTimeFormat(LocalTime.language, { numeric: "auto" });

class TimeAgo extends LocalTime {
  format(moment) {
    const minutes = Math.floor((Date.now() - moment) / 60000);
    if (minutes < 1) return relative.format(0, "second");
    if (minutes < 60) return minute.format(minutes);
    return date.format(moment) === date.format() ? super.format(moment) : short.format(moment);
  }
}

class TimeThere extends HTMLElement {
  connectedCallback() {
    this.update();
  }

  update() {
    try {
      const clock = new Intl.DateTimeFormat(LocalTime.language, { timeStyle: "short", timeZone: this.dataset.zone });
      this.querySelector("time").textContent = clock.format(Date.now());
    } catch {
      // This browser does not know the zone: keep the server's text.
    }
  }
}

customElements.define("time-ago", TimeAgo);
customElements.define("time-there", TimeThere);

// Every half minute, in step with the clock.
function schedule() {
  setTimeout(() => {
    document.querySelectorAll("time-ago, time-there").forEach((element) => element.update());
    schedule();
  }, 30000 - (Date.now() % 30000));
}

schedule();
