// Makes htmx obey our Content-Security-Policy. This runs before DOMContentLoaded, when htmx starts.
Object.assign(htmx.config, {
  includeIndicatorStyles: false,
  allowEval: false,
  allowScriptTags: false,
  selfRequestsOnly: true,
  disableInheritance: true,
  attributesToSettle: [],
  historyCacheSize: 0,
  timeout: 15000, // milliseconds until the response begins
});

// Allow more time once a response has begun: 100 kB take 50 s at 2 kB/s.
document.body.addEventListener("htmx:beforeRequest", ({ detail: { xhr } }) => {
  xhr.onprogress = () => (xhr.timeout = 60000);
});
