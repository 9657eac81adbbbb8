// What nobody waits for is done when the page was shown for the first time and has nothing else to do, each part in a task of its
// own: `await afterPaint()`. This file stands outside of any function, so that the others of the bundle have that name too.
const onceIdle = (run) => ("requestIdleCallback" in window ? requestIdleCallback(run, { timeout: 500 }) : setTimeout(run));
let turn = new Promise((run) => (document.hidden ? setTimeout(run) : requestAnimationFrame(run)));
const afterPaint = () => (turn = turn.then(() => new Promise(onceIdle)));
