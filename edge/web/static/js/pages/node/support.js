/** One file for who helps with this node: packed on the node, downloaded once. */

import { apiUrl, post } from "../../api.js";
import { html, useState } from "../../html.js";
import { finished } from "../../jobs.js";
import { Icon } from "../../parts/icons.js";
import { toast } from "../../parts/toast.js";
import { can } from "../../session.js";

export function SupportCard() {
  const [isBusy, setIsBusy] = useState(false);
  const pack = async () => {
    setIsBusy(true);
    try {
      const job = await finished(await post("/node/support-bundle"));
      if (job.state === "done") download(apiUrl(`/node/support-bundle/${job.id}.tar.gz`));
      else toast(`No bundle was made: ${job.reason}`, { kind: "bad" });
    } catch {
      // the message is on the page
    }
    setIsBusy(false);
  };
  return html`<section class="card node-card" aria-label="Support">
    <h2>Support</h2>
    <p class="soft">Log, configuration, figures and the doctor's findings in one file, without secrets. Look through it before you send it.</p>
    <div class="buttons">
      <button class="button" disabled=${isBusy || !can("engineer")} title=${can("engineer") ? null : "Needs an engineer"} onClick=${pack}><${Icon} name="download" />${isBusy ? "Packing" : "Support bundle"}</button>
    </div>
  </section>`;
}

function download(address) {
  const link = document.createElement("a");
  link.href = address;
  link.download = "";
  link.click();
  toast("The bundle is on its way. The node has deleted its copy.");
}
