// Logs on the console why a page has no chat. Pages get it instead of loader.js if no website lists their origin; loader.js
// imports it if only the page's own website does not, and if the chat does not load in its frame. Where loader.js is not loaded,
// the functions of Chatsite do nothing, so that the page's own scripts do not fail.
(() => {
  const script = document.currentScript; // null if it is imported
  const queue = Object.hasOwn(window, "Chatsite") && window.Chatsite;
  const isLoaded = queue && !Array.isArray(queue);
  if (isLoaded && script) return;
  const { origin, listed, website, chat, admin } = __REFUSED__;
  const key = (script instanceof HTMLScriptElement && script.dataset.website) || website;
  const nothing = () => {};
  if (!isLoaded) window.Chatsite = { open: nothing, close: nothing, toggle: nothing, identify: nothing, shutdown: async () => {}, on: nothing, push: nothing };
  const name = `the chat of the website "${key}"${key === "default" ? ", which is the one for a script without data-website" : ""}`;
  if (self.origin === "null")
    console.warn(
      location.protocol === "file:"
        ? "Chatsite: a page of file:// may not show the chat. Open it from a web server."
        : "Chatsite: a page in a sandboxed frame may not show the chat. Put the script into the page around the frame.",
    );
  else if (listed || !origin)
    console.warn(
      `Chatsite: ${name} did not load in its frame on ${location.origin}. If your pages have a Content-Security-Policy, its ` +
        `frame-src must list ${chat}. It may also be an ad blocker, or the network.`,
    );
  else
    console.warn(
      `Chatsite: ${origin} may not show ${name}. Check the key, and add ${origin} to the ` +
        `allowed origins of this website, in ${admin}`,
    );
})();
