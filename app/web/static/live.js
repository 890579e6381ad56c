// Parts of a page that change: <div data-live="address" data-seconds="2"> is filled anew with what the server renders.
// Without data-seconds it is filled once; with data-first at once and then again. A part that says data-done in what it got is left alone from then on.
(() => {
  const state = () => document.getElementById("live-state");
  const say = (sentence) => { if (state() && state().textContent !== sentence) state().textContent = sentence; };
  // Whoever is in the middle of something there keeps it: a field, a button, a piece of text being marked.
  const isInUse = (part) => {
    const marked = document.getSelection();
    return (part.contains(document.activeElement) && document.activeElement !== part) ||
      (marked && !marked.isCollapsed && part.contains(marked.anchorNode));
  };
  const keepOpen = (part) => new Set([...part.querySelectorAll("details[open][id]")].map((each) => each.id));

  const fill = async (part) => {
    const answer = await fetch(part.dataset.live, { headers: { "X-Fragment": "1" }, redirect: "manual" });
    if (answer.status === 401) return location.reload(); // the session is over
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const text = await answer.text();
    if (isInUse(part)) return;
    const open = keepOpen(part);
    part.innerHTML = text;
    open.forEach((id) => { const each = document.getElementById(id); if (each) each.open = true; });
    part.removeAttribute("aria-busy");
  };

  const watch = (part) => {
    const pause = 1000 * Number(part.dataset.seconds);
    const isDone = () => part.querySelector("[data-done]") !== null;
    const again = (milliseconds) => window.setTimeout(look, milliseconds);
    async function look() {
      if (document.hidden) return again(pause);
      const started = performance.now();
      let wait = pause;
      try {
        await fill(part);
        say("");
      } catch (error) {
        say(`The service does not answer (${error.message}); trying again.`);
        wait = Math.max(pause, 5000);
      }
      // A view that is dear to compute is asked for less often.
      if (!isDone()) again(Math.max(wait, 5 * (performance.now() - started)));
    }
    if ("first" in part.dataset) look();
    else if (!isDone()) again(pause);
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-live]").forEach((part) => {
      if (part.dataset.seconds) watch(part);
      else fill(part).catch((error) => { part.textContent = `This part could not be loaded (${error.message}).`; });
    });
  });
})();
