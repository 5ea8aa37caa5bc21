// Light, dark, or the system's theme; stored in this browser.

const THEMES = ["system", "light", "dark"];
const KEY = "trackcore-theme";

function remembered() {
  try {
    return localStorage.getItem(KEY) ?? "system";
  } catch {
    return "system";
  }
}

export function applyTheme(theme = remembered()) {
  document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : "system";
  return document.documentElement.dataset.theme;
}

export function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(applyTheme()) + 1) % THEMES.length];
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // A browser without storage still shows the theme until the page is closed.
  }
  return applyTheme(theme);
}
