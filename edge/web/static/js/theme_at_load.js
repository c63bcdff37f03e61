// Sets the chosen theme before the first paint.  A classic script, because modules run later.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("defectd.theme");
  } catch {
    // Without storage the system's theme counts.
  }
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}
