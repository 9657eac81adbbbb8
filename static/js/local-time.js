// <local-time data-as="time|day|full|back"> shows its <time> in the page's language and the reader's time zone: the browser's, or the
// one that an agent has chosen.
const pageLanguage = document.documentElement.lang;
let language = pageLanguage;
try {
  language = new Intl.Locale(navigator.languages.find((each) => each.startsWith(pageLanguage))).baseName; // with its region, as en-GB
} catch {
  // the browser has another language, or an invalid one such as en-US@posix
}
const timeZone = document.documentElement.dataset.zone;
const formatter = (options) => new Intl.DateTimeFormat(language, { timeZone, ...options });
const time = formatter({ timeStyle: "short" });
const weekday = formatter({ weekday: "long", day: "numeric", month: "long" });
const year = formatter({ day: "numeric", month: "long", year: "numeric" });
const later = formatter({ weekday: "long", hour: "numeric", minute: "numeric" });
const full = formatter({ dateStyle: "long", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });

const date = new Intl.DateTimeFormat("sv", { timeZone }); // as in 2026-11-28
const midnight = (moment) => new Date(date.format(moment));
const daysAgo = (moment) => (midnight() - midnight(moment)) / 86400000;

const formatters = {
  time: time.format,
  full: full.format,
  back: (moment) => (!daysAgo(moment) ? time : daysAgo(moment) > -7 ? later : full).format(moment),
  day(moment) {
    const days = daysAgo(moment);
    const name = relative.format(-days, "day");
    if (days >= 0 && days < 2) return name[0].toUpperCase() + name.slice(1);
    return (days < 180 ? weekday : year).format(moment);
  },
};

class LocalTime extends HTMLElement {
  static language = language;

  connectedCallback() {
    this.update();
  }

  update() {
    const element = this.querySelector("time");
    const moment = new Date(element?.dateTime);
    if (isNaN(moment)) return;
    element.textContent = this.format(moment);
    element.title = full.format(moment);
  }

  format(moment) {
    return formatters[this.dataset.as || "time"](moment);
  }
}

customElements.define("local-time", LocalTime);
setInterval(() => document.querySelectorAll("local-time[data-as=day]").forEach((element) => element.update()), 30000);
