"use strict";
const MILLISECONDS = 600;
let blinking = 0;
const show = (shown) => document.body.classList.toggle("bare", !shown);
const isShown = () => !document.body.classList.contains("bare");
function press() {
  for (const button of document.querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.does === "blink" ? Boolean(blinking) : isShown());
}
function blink(on) {
  clearInterval(blinking);
  blinking = on ? setInterval(() => show(!isShown()), MILLISECONDS) : 0;
  if (!on) show(true);
}
const actions = {
  mask() { const shown = isShown(); if (blinking) blink(false); show(!shown); },
  blink() { blink(!blinking); },
};
for (const button of document.querySelectorAll("button")) button.addEventListener("click", () => { actions[button.dataset.does](); press(); });
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const does = { m: "mask", b: "blink" }[event.key];
  if (does) { actions[does](); press(); }
});
