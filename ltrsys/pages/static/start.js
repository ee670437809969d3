"use strict";
/* The page begins with its first run; `data-ready` then holds the milliseconds that it took. */
(async () => {
  ltrsys.colours.startButton(document.getElementById("theme"));
  const chosen = document.getElementById("run");
  if (chosen !== null) chosen.addEventListener("change", () => ltrsys.showRun(Number(chosen.value)));
  ltrsys.showRun(chosen === null ? 0 : Number(chosen.value));
  await ltrsys.charts.settled();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
