// htmx as strict as our policy, and no style of its own. It starts with DOMContentLoaded, which is after this.
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
