// The reader's theme, before anything is painted. Nothing else is ever stored in the browser.
{
  let theme = null;
  try { theme = localStorage.getItem("fluxgate-theme"); } catch { /* storage is switched off */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
