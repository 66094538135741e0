// Light and dark: as the system has it, until one is chosen.

const KEY = "milvine.theme";

function set(name) {
  document.documentElement.dataset.theme = name;
}

export function useChosenTheme() {
  const chosen = localStorage.getItem(KEY);
  if (chosen) set(chosen);
}

export function switchTheme() {
  const chosen = document.documentElement.dataset.theme;
  const isDark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = isDark ? "light" : "dark";
  set(next);
  localStorage.setItem(KEY, next);
}
