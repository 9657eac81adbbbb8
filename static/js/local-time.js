// <local-time data-as="time|day|full|back"> shows its <time> in the page's words, by the reader's own clock.
const page = document.documentElement.lang;
const language = navigator.languages.find((each) => each.startsWith(page)) || page; // en-GB writes hours otherwise than en
const format = (options) => new Intl.DateTimeFormat(language, options);
const time = format({ timeStyle: "short" });
const weekday = format({ weekday: "long", day: "numeric", month: "long" });
const year = format({ day: "numeric", month: "long", year: "numeric" });
const later = format({ weekday: "long", hour: "numeric", minute: "numeric" });
const full = format({ dateStyle: "long", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });

const midnight = (moment) => new Date(moment).setHours(0, 0, 0, 0);
const daysAgo = (moment) => Math.round((midnight(Date.now()) - midnight(moment)) / 86400000);

const shown = {
  time: time.format,
  full: full.format,
  back: (moment) => (daysAgo(moment) === 0 ? time : daysAgo(moment) > -7 ? later : full).format(moment),
  day(moment) {
    const days = daysAgo(moment);
    const near = relative.format(-days, "day");
    if (days >= 0 && days < 2) return near[0].toUpperCase() + near.slice(1);
    return (days < 180 ? weekday : year).format(moment);
  },
};

class LocalTime extends HTMLElement {
  static language = language;

  connectedCallback() {
    this.show();
  }

  show() {
    const element = this.querySelector("time");
    const moment = new Date(element?.dateTime);
    if (isNaN(moment)) return;
    element.textContent = this.words(moment);
    element.title = full.format(moment);
  }

  words(moment) {
    return shown[this.dataset.as || "time"](moment);
  }
}

customElements.define("local-time", LocalTime);
setInterval(() => document.querySelectorAll("local-time[data-as=day]").forEach((element) => element.show()), 30000);
