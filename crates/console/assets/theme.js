// Applies the reader's theme before the first paint. Nothing else is stored in the browser.
{
  let theme = null;
  try { theme = localStorage.getItem("fluxgate-theme"); } catch { /* storage is disabled */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
