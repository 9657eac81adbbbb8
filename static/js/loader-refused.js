// The script for pages that may not show the chat. They get it instead of loader.js if no website lists their origin; loader.js
// imports it if only the page's own website does not. It shows no button and warns on the console where to add the origin. Its
// calls do nothing, so that the page's own scripts do not fail.
(() => {
  const script = document.currentScript;
  const queue = Object.hasOwn(window, "Chatsite") && window.Chatsite;
  if (queue && !Array.isArray(queue)) return; // loaded already
  const { origin, website, admin } = __REFUSED__;
  const key = (script instanceof HTMLScriptElement && script.dataset.website) || website;
  const nothing = () => {};
  window.Chatsite = { open: nothing, close: nothing, toggle: nothing, identify: nothing, shutdown: async () => {}, on: nothing, push: nothing };
  if (!origin) return console.warn(`Chatsite: a page of ${location.protocol}// may not show the chat. Open it from a web server.`);
  console.warn(
    `Chatsite: ${origin} may not show the chat of the website "${key}". Check the key, and add ${origin} to the ` +
      `allowed origins of this website, in ${admin}`,
  );
})();
