// Decodes Sparkplug messages with another implementation (npm package sparkplug-payload), for comparison.
// stdin: {"topic", "hex"} per line, in the order of arrival.  stdout: what that package makes of each, per line.
"use strict";
const readline = require("readline");
const library = process.argv[2] + "/node_modules/sparkplug-payload";
const codec = require(library).get("spBv1.0");
const Payload = require(library + "/lib/sparkplugPayloadProto").org.eclipse.tahu.protobuf.Payload;
const types = new Map(); // alias -> datatype, from births: data messages carry none, and the package needs one

function plain(value) {
  return value !== null && typeof value === "object" && typeof value.toString === "function" ? value.toString() : value;
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const { topic, hex } = JSON.parse(line);
  const bytes = Buffer.from(hex, "hex");
  const raw = Payload.decode(bytes);
  const again = Buffer.from(Payload.encode(raw).finish()).toString("hex");
  for (const metric of raw.metrics) {
    if (/\/[ND]BIRTH\//.test(topic) && metric.alias !== null && metric.alias !== undefined) {
      types.set(String(metric.alias), metric.datatype);
    } else if (/\/[ND]DATA\//.test(topic)) {
      metric.datatype = types.get(String(metric.alias));
    }
  }
  const decoded = codec.decodePayload(Payload.encode(raw).finish());
  const metrics = (decoded.metrics || []).map((metric, index) => ({
    name: metric.name === undefined ? null : metric.name || null,
    alias: metric.alias === undefined ? null : plain(metric.alias),
    type: metric.type,
    timestamp: plain(metric.timestamp),
    value: metric.isNull || raw.metrics[index].isNull ? null : plain(metric.value),
    isHistorical: Boolean(metric.isHistorical),
    quality: metric.properties && metric.properties.Quality ? metric.properties.Quality.value : null,
  }));
  const seq = decoded.seq === undefined || decoded.seq === null ? null : plain(decoded.seq);
  process.stdout.write(JSON.stringify({ same: again === hex, seq, timestamp: plain(decoded.timestamp), metrics }) + "\n");
});
