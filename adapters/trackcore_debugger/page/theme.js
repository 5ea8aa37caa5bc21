// Light, dark, or the system's theme; stored in this browser.
import { remember, remembered } from "./dom.js";

const THEMES = ["system", "light", "dark"];

export function applyTheme(theme = remembered("theme")) {
  document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : "system";
  return document.documentElement.dataset.theme;
}

export function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(applyTheme(document.documentElement.dataset.theme)) + 1) % THEMES.length];
  remember("theme", theme);
  return applyTheme(theme);
}
