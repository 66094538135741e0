// A search by vector, text or key, and how each segment was searched.

import { milvus, ours } from "./api.js";
import { attempt, button, field, fill, h, section, select, table } from "./dom.js";
import { milliseconds, number, percent } from "./format.js";
import { rowTable } from "./data.js";
import { drawable, lastHits } from "./map.js";

const WAYS = [["vector", "by vector"], ["key", "by key"], ["text", "by text"]];
const HINTS = {
  vector: "JSON, such as [0.1, 0.2, 0.3]; a sparse vector as {\"3\": 0.5}",
  key: "the key of a row; rows like it are found",
  text: "for a field that a function fills from text",
};

export function vectorFields(described) {
  return described.fields.filter((one) => one.type.includes("Vector"));
}

export function searchTab(described) {
  const key = described.fields.find((one) => one.primaryKey);
  const fields = vectorFields(described).map((one) => one.name);
  const anns = select(fields, { "aria-label": "Vector field" });
  const way = select(WAYS, { "aria-label": "Search by", onchange: () => { hint.textContent = HINTS[way.value]; } });
  const hint = h("small", {}, HINTS.vector);
  const query = h("textarea", { class: "code", rows: "3", "aria-label": "Query", spellcheck: "false", required: "" });
  const filter = h("input", { class: "code", spellcheck: "false" });
  const limit = h("input", { type: "number", value: "10", min: "1", max: "1000" });
  const params = h("input", { class: "code", placeholder: '{"ef": 64}', spellcheck: "false" });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const found = h("div", {});
  const plan = h("div", {});

  function body() {
    const read = (text, what) => {
      try {
        return JSON.parse(text);
      } catch {
        throw new Error(`${what} must be JSON.`);
      }
    };
    const given = query.value.trim();
    if (!given) throw new Error("Type what to search for.");
    const asked = way.value === "key" ? { ids: [given] } : { data: [way.value === "text" ? given : read(given, "A vector")] };
    const searchParams = params.value.trim() ? { searchParams: { params: read(params.value, "The parameters") } } : {};
    return { collectionName: described.collectionName, annsField: anns.value, filter: filter.value, limit: Number(limit.value), ...asked, ...searchParams };
  }

  async function search() {
    const wanted = described.fields.filter((one) => !one.type.includes("Vector")).map((one) => one.name);
    const outputFields = described.enableDynamicField ? [...wanted, "$meta"] : wanted;
    const started = performance.now();
    const hits = await milvus("entities/search", { ...body(), outputFields });
    const took = performance.now() - started;
    lastHits.set(described.collectionName, hits.map((one) => String(one[key.name])));
    fill(found, section(`${hits.length} hits in ${milliseconds(took)}`, rowTable(hits, described, ["distance"]),
      hits.length && drawable(described).length ? h("p", {}, h("a", { href: `#/collection/${encodeURIComponent(described.collectionName)}/map` }, "Show them on the map")) : null));
  }

  async function explain() {
    const stats = await ours("explain", body());
    fill(plan, section("How each segment was searched", table(
      ["segment", "state", ["rows", "number"], ["kept by the filter", "number"], ["share", "number"], "plan", ["effort", "number"], ["time", "number"]],
      stats.map((one) => [String(one.segmentId), one.state, number(one.rows), number(one.rowsKept), percent(one.share || 0), one.plan, number(one.effort), milliseconds(one.milliseconds)]),
      "No segment has rows.")));
  }

  async function aRow() {
    const rows = await milvus("entities/query", { collectionName: described.collectionName, limit: 1, outputFields: [anns.value] });
    if (!rows.length) throw new Error("The collection has no rows.");
    way.value = "vector";
    hint.textContent = HINTS.vector;
    query.value = JSON.stringify(rows[0][anns.value]);
  }

  const ask = h("form", { class: "grid", onsubmit: (event) => { event.preventDefault(); attempt(problem, search); } },
    h("div", { class: "row" }, way, anns, button("Take the first row's vector", () => attempt(problem, aRow)), hint),
    query,
    h("div", { class: "row" }, field("Filter", filter), field("Limit", limit), field("Parameters", params)),
    h("div", { class: "row" }, h("button", { class: "first" }, "Search"), button("Explain", () => attempt(problem, explain))));
  return [ask, problem, found, plan];
}
