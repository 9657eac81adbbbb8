// Makes htmx obey our Content-Security-Policy. This runs before DOMContentLoaded, when htmx starts.
Object.assign(htmx.config, {
  includeIndicatorStyles: false,
  allowEval: false,
  allowScriptTags: false,
  selfRequestsOnly: true,
  disableInheritance: true,
  attributesToSettle: [],
  historyCacheSize: 0,
  timeout: 15000,
});
