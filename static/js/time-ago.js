// <time-ago> shows its <time> as what has passed since then, in a list where that is soon another.
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

customElements.define("time-ago", TimeAgo);
setInterval(() => document.querySelectorAll("time-ago").forEach((element) => element.show()), 30000);
