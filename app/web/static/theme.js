// Light or dark, before the page is drawn: as chosen here before, else as the system has it.
(() => {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const current = () => remembered() || (system.matches ? "dark" : "light");
  const apply = () => {
    document.documentElement.dataset.bsTheme = current();
    const button = document.getElementById("theme");
    if (button) button.textContent = current() === "dark" ? "Light" : "Dark";
  };
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", () => {
      try { localStorage.setItem("theme", current() === "dark" ? "light" : "dark"); } catch { /* not kept, then */ }
      apply();
    });
    apply();
  });
})();
