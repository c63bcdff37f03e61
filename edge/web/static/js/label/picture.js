/** A picture of the archive with the box of its defect, and where it lay in its frame. */

import { evidenceUrl } from "../api.js";
import { html } from "../html.js";

export function pictureUrl(path) {
  return evidenceUrl(path);
}

/** The picture as large as its place allows. box: [x, y, w, h] as shares of the picture, or null. alt: "" where words beside it say the same. */
export function BoxedPicture({ item, alt }) {
  const [, , width, height] = item.crop_px ?? [0, 0, 1, 1];
  const [x, y, w, h] = item.box ?? [];
  return html`<svg class="boxed-picture" viewBox="0 0 ${width} ${height}" role=${alt ? "img" : null} aria-label=${alt || null} aria-hidden=${alt ? null : "true"}>
    <image href=${pictureUrl(item.evidence)} width=${width} height=${height} preserveAspectRatio="none" />
    ${
      item.box &&
      html`<g fill="none">
        <rect class="box-edge" x=${x * width} y=${y * height} width=${w * width} height=${h * height} />
        <rect class="box" x=${x * width} y=${y * height} width=${w * width} height=${h * height} />
      </g>`
    }
  </svg>`;
}

/** The frame as an outline, or as its picture where the archive has one, with the part that the picture shows. */
export function FramePlace({ item, frame }) {
  if (!item.frame_px || !item.crop_px) return null;
  const [width, height] = item.frame_px;
  const [x, y, w, h] = item.crop_px;
  return html`<figure class="frame-place ${frame ? "shown" : ""}">
    <svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Where in the frame: ${x} px from the left of ${width}, ${y} px from the top of ${height}">
      <rect class="frame" width=${width} height=${height} />
      ${frame && html`<image href=${pictureUrl(frame)} width=${width} height=${height} preserveAspectRatio="none" />`}
      <rect class="box-edge" x=${x} y=${y} width=${w} height=${h} /><rect class="box" x=${x} y=${y} width=${w} height=${h} />
    </svg>
    <figcaption class="soft">${frame ? "Its frame" : `Its place in a frame of ${width} × ${height} px`}</figcaption>
  </figure>`;
}
