/** What a change of the configuration means for the running daemon, in sentences. */

/** effect: as `defectd reload` reports it, or null. */
export function effects(effect) {
  if (!effect) return ["What changes for the daemon is seen when it reads the file."];
  const cameras = (names, words) => (names.length ? [`${names.length > 1 ? "Cameras" : "Camera"} ${names.join(", ")}: ${words}.`] : []);
  const found = [
    ...cameras(effect.added, "starts at once"),
    ...cameras(effect.removed, "ends at once"),
    ...cameras(effect.reopened, "opened anew at once"),
    ...cameras([...effect.looked_at, ...effect.thresholds], "inspected with the new settings at once"),
    ...(effect.needs_restart.length ? [`From the next start of the daemon: ${effect.needs_restart.join(", ")}.`] : []),
  ];
  return found.length ? found : ["Nothing changes for the daemon."];
}
