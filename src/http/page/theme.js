// The colours that were chosen, applied before anything is drawn. A plain script, so that it runs before the first paint.
"use strict";
{
  const THEMES = {
    auto: ["Auto", "as the system has them"],
    light: ["Light", "light"],
    dark: ["Dark", "dark"],
  };
  const NAMES = Object.keys(THEMES);

  // Storage may be switched off; the choice then lasts as long as the page.
  const stored = () => { try { return localStorage.getItem("sapwood-theme"); } catch { return null; } };
  const store = name => { try { localStorage.setItem("sapwood-theme", name); } catch { /* as above */ } };

  let chosen = NAMES.includes(stored()) ? stored() : "auto";
  const apply = () => {
    document.documentElement.dataset.theme = chosen;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = THEMES[chosen][0];
      button.setAttribute("aria-label", `Colours: ${THEMES[chosen][1]}`);
    }
    dispatchEvent(new Event("sapwood-theme"));
  };
  apply();
  addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      chosen = NAMES[(NAMES.indexOf(chosen) + 1) % NAMES.length];
      store(chosen);
      apply();
    });
  });
}
