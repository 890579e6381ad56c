// Parts of a page that change: <div data-live="address" data-seconds="2"> is filled anew with what the server renders.
// Without data-seconds it is filled once; with data-first at once and then again. A part that says data-done in what it
// got is left alone from then on.
(() => {
  const state = () => document.getElementById("live-state");
  const say = (sentence) => { if (state() && state().textContent !== sentence) state().textContent = sentence; };
  // Whoever is in the middle of something there keeps it: a field, or a piece of text being marked.
  const isInUse = (part) => {
    const marked = document.getSelection();
    return (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) ||
      (marked && !marked.isCollapsed && part.contains(marked.anchorNode));
  };
  const nameOf = (element) => element.id || element.getAttribute("href") || element.getAttribute("aria-label");
  const sameOnes = (part, name) => [...part.querySelectorAll("a, button, summary, [tabindex]")]
    .filter((each) => nameOf(each) === name);
  const wideOnes = (part) => [...part.querySelectorAll(".wide")];

  // What the new content would forget: what is unfolded, where the keyboard is, how far a table is scrolled.
  const replace = (part, text) => {
    const open = [...part.querySelectorAll("details[open][id]")].map((each) => each.id);
    const focused = part.contains(document.activeElement) ? nameOf(document.activeElement) : null;
    const place = focused ? sameOnes(part, focused).indexOf(document.activeElement) : -1;
    const scrolled = wideOnes(part).map((each) => each.scrollLeft);
    part.innerHTML = text;
    open.forEach((id) => { const each = document.getElementById(id); if (each) each.open = true; });
    wideOnes(part).forEach((each, number) => { each.scrollLeft = scrolled[number] || 0; });
    const again = place >= 0 && sameOnes(part, focused)[place];
    if (again) again.focus({ preventScroll: true });
  };

  const fill = async (part) => {
    const answer = await fetch(part.dataset.live, { headers: { "X-Fragment": "1" }, redirect: "manual" });
    if (answer.status === 401) return location.reload(); // the session is over
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const text = await answer.text();
    if (isInUse(part)) return;
    replace(part, text);
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
    // On a phone the row of pages is longer than the screen.
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    document.querySelectorAll("[data-live]").forEach((part) => {
      if (part.dataset.seconds) watch(part);
      else fill(part).catch((error) => { part.textContent = `This part could not be loaded (${error.message}).`; });
    });
  });
})();
