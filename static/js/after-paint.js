// What nobody waits for is done after the page was shown for the first time, each part in a task of its own: `await afterPaint()`.
// This file stands outside of any function, so that the others of the bundle have that name too.
let turn = new Promise((run) => (document.hidden ? setTimeout(run) : requestAnimationFrame(() => setTimeout(run))));
const afterPaint = () => (turn = turn.then(() => new Promise((run) => setTimeout(run))));
