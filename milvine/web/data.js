// The rows of a collection, by a filter, page by page.

import { milvus } from "./api.js";
import { attempt, button, fill, h, select, table } from "./dom.js";
import { cell } from "./format.js";

const SIZES = ["20", "50", "100", "500"];

/** Rows as a table: the schema's fields first, then keys of the dynamic field. */
export function rowTable(rows, described, first = []) {
  const names = [...first, ...described.fields.map((one) => one.name)];
  const known = new Set(names);
  const given = new Set(rows.flatMap((row) => Object.keys(row)));
  const columns = [...names.filter((name) => given.has(name)), ...[...given].filter((name) => !known.has(name))];
  return table(columns, rows.map((row) => columns.map((name) => (name in row ? cell(row[name]) : ""))), "No rows.");
}

export function dataTab(described) {
  const key = described.fields.find((one) => one.primaryKey);
  const filter = h("input", { class: "code wide", placeholder: `${key.name} > 100 and color == "red"`, "aria-label": "Filter", spellcheck: "false" });
  const size = select(SIZES, { "aria-label": "Rows on a page" });
  const vectors = h("input", { type: "checkbox" });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const rows = h("div", {});
  const page = h("span", { class: "faint" });
  let offset = 0;

  async function show(start) {
    await attempt(problem, async () => {
      const limit = Number(size.value);
      const wanted = described.fields.filter((one) => vectors.checked || !one.type.includes("Vector")).map((one) => one.name);
      const found = await milvus("entities/query", {
        collectionName: described.collectionName, filter: filter.value, limit, offset: start,
        outputFields: described.enableDynamicField ? [...wanted, "$meta"] : wanted,
      });
      offset = start;
      back.disabled = start === 0;
      next.disabled = found.length < limit;
      page.textContent = found.length ? `rows ${start + 1} to ${start + found.length}` : "";
      fill(rows, rowTable(found, described));
    });
  }

  async function count() {
    await attempt(problem, async () => {
      const [found] = await milvus("entities/query", { collectionName: described.collectionName, filter: filter.value, outputFields: ["count(*)"] });
      page.textContent = `${found["count(*)"]} rows match`;
    });
  }

  const back = button("Back", () => show(Math.max(0, offset - Number(size.value))), { disabled: true });
  const next = button("Next", () => show(offset + Number(size.value)), { disabled: true });
  const ask = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); show(0); } },
    filter, size, h("label", { class: "check" }, vectors, "vectors"), h("button", { class: "first" }, "Show"), button("Count", count));
  show(0);
  return [ask, problem, h("div", { class: "row" }, back, next, page), rows];
}
