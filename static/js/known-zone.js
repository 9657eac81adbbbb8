// The time zone that an agent has chosen is in <html data-zone>. A browser that does not know it shows its own.
const { dataset } = document.documentElement;
try {
  new Intl.DateTimeFormat("sv", { timeZone: dataset.zone });
} catch {
  delete dataset.zone;
}
