// In the frame of a match: it says that it is there. Esc lets go of a chosen query token, and where none is chosen asks the page to
// close the match. Nothing else passes between the two.
"use strict";
const tell = (what) => window.parent !== window && window.parent.postMessage(what, "*");
document.addEventListener("DOMContentLoaded", () => tell("ready"));
window.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("[data-chosen]")) tell("close");
}, true);
