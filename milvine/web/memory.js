// Memory as bars, and the dialog that chooses the fields of a load.

import { milvus, ours } from "./api.js";
import { attempt, button, fill, h, section, showDialog, table } from "./dom.js";
import { bytes, number } from "./format.js";

/** A bar of `parts` ([bytes, title, class]) against `limit`. */
export function bar(parts, limit) {
  return h("div", { class: "bar", role: "img", "aria-label": parts.map(([, title]) => title).join(", ") },
    parts.map(([size, title, kind = ""]) =>
      h("span", { class: kind, title, style: { width: `${Math.min(100, (100 * size) / Math.max(1, limit))}%` } })));
}

export function budget(usage) {
  const { limitBytes, measuredBytes, reservedBytes, freeBytes } = usage;
  return h("div", { class: "budget" },
    bar([[measuredBytes, `in memory ${bytes(measuredBytes)}`], [reservedBytes, `reserved ${bytes(reservedBytes)}`, "reserved"]],
      limitBytes),
    h("p", {}, h("b", {}, bytes(measuredBytes)), " in memory, ", h("b", {}, bytes(reservedBytes)), " reserved, ",
      h("b", {}, bytes(freeBytes)), " free of ", bytes(limitBytes)));
}

/** Query nodes, if there are any: memory against the limit of each. */
export function nodes(found = []) {
  return found.length === 0 ? null : section("Query nodes", table(
    ["node", "resource group", "state", ["segments", "number"], ["in memory", "number"], ["limit", "number"], ["mapped", "number"], ["", "wide"]],
    found.map((one) => [
      [`${one.nodeId} `, h("small", {}, `${one.hostname} ${one.address}`)], one.resourceGroup,
      one.isSilent ? h("span", { class: "problem" }, "does not answer") : "answers",
      number(one.segments), bytes(one.measuredBytes), bytes(one.limitBytes), bytes(one.mappedBytes),
      bar([[one.measuredBytes, `in memory ${bytes(one.measuredBytes)}`]], one.limitBytes),
    ])));
}

/** Parts of memory by field and index, the largest bar full. */
export function parts(found) {
  const largest = Math.max(1, ...found.map((part) => Math.max(part.measuredBytes, part.estimatedBytes)));
  return table(["kind", "name", ["in memory", "number"], ["estimated", "number"], ["", "wide"]], found.map((part) => [
    part.kind, part.name, bytes(part.measuredBytes), bytes(part.estimatedBytes),
    bar([[part.measuredBytes, `${part.name} ${bytes(part.measuredBytes)}`]], largest),
  ]), "Nothing of it is in memory.");
}

/** The parts of all segments, summed by kind and name. */
export function summed(segments) {
  const found = new Map();
  for (const part of segments.flatMap((segment) => segment.parts)) {
    const key = `${part.kind} ${part.name}`;
    const sum = found.get(key) ?? { ...part, measuredBytes: 0, estimatedBytes: 0 };
    sum.measuredBytes += part.measuredBytes;
    sum.estimatedBytes += part.estimatedBytes;
    found.set(key, sum);
  }
  return [...found.values()];
}

/** Chooses fields, shows what they cost, and loads them. */
export async function chooseFields(name, onloaded) {
  const described = await milvus("collections/describe", { collectionName: name });
  const boxes = described.fields.map((field) => {
    const input = h("input", { type: "checkbox", checked: true, disabled: field.primaryKey, onchange: estimate });
    return { name: field.name, input, line: h("label", { class: "check" }, input, field.name, " ", h("small", {}, field.type)) };
  });
  const dynamic = h("input", { type: "checkbox", checked: true, onchange: estimate });
  const cost = h("div", { "aria-live": "polite" });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const body = () => {
    const chosen = boxes.filter((box) => box.input.checked).map((box) => box.name);
    return {
      collectionName: name,
      ...(chosen.length < boxes.length ? { loadFields: chosen } : {}),
      skipLoadDynamicField: !dynamic.checked,
    };
  };
  async function estimate() {
    await attempt(problem, async () => {
      const found = await ours("estimate", body());
      fill(cost, h("p", { class: found.fits ? "" : "problem" }, `${number(found.rows)} rows: `,
        h("b", {}, bytes(found.estimatedBytes)), ` in all, ${bytes(found.neededBytes)} more than now, ${bytes(found.freeBytes)} free. `,
        found.fits ? "It fits." : "It does not fit."), parts(found.parts));
    });
  }
  const dialog = showDialog(`Load ${name}`,
    h("div", { class: "checks" }, boxes.map((box) => box.line),
      described.enableDynamicField ? h("label", { class: "check" }, dynamic, "$meta ", h("small", {}, "dynamic field")) : null),
    cost, problem,
    h("div", { class: "row end" }, button("Cancel", () => dialog.close()), button("Load these", () =>
      attempt(problem, async () => {
        await ours("load", body());
        dialog.close();
        onloaded();
      }), { class: "first" })));
  await estimate();
}
