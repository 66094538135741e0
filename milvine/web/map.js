// A sample of the vectors on a plane, with the hits of the last search.

import { milvus } from "./api.js";
import { attempt, field, fill, h, select } from "./dom.js";
import { cell, percent } from "./format.js";
import { project } from "./projection.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 900;
const HEIGHT = 520;
const EDGE = 16;
const COLOURS = 8;
const SAMPLES = ["200", "500", "1000"];
const PLAIN = ["FloatVector", "Float16Vector", "BFloat16Vector", "Int8Vector"];

/** The keys of the last search's hits, by collection. */
export const lastHits = new Map();

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Places of points on the drawing, with one scale for both directions. */
function places(points) {
  const range = (axis) => [Math.min(...points.map((point) => point[axis])), Math.max(...points.map((point) => point[axis]))];
  const [[left, right], [low, high]] = [range(0), range(1)];
  const scale = Math.min((WIDTH - 2 * EDGE) / (right - left || 1), (HEIGHT - 2 * EDGE) / (high - low || 1));
  return points.map(([x, y]) => [WIDTH / 2 + (x - (left + right) / 2) * scale, HEIGHT / 2 + (y - (low + high) / 2) * scale]);
}

function drawing(points, rows, kinds, hits, key) {
  const title = (row) => svg("title", {}, Object.entries(row).map(([name, value]) => `${name}: ${cell(value)}`).join("\n"));
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${rows.length} vectors on a plane` },
    ...places(points).map(([x, y], place) => {
      const isHit = hits.has(String(rows[place][key]));
      return svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: isHit ? 7 : 3.5, class: isHit ? "hit" : `kind${kinds[place]}` },
        title(rows[place]));
    }));
}

/** The names of the vector fields that can be drawn. */
export function drawable(described) {
  return described.fields.filter((one) => PLAIN.includes(one.type)).map((one) => one.name);
}

export function mapTab(described) {
  const key = described.fields.find((one) => one.primaryKey).name;
  const plain = drawable(described);
  if (!plain.length) return h("p", { class: "empty" }, "Only vectors of numbers can be drawn.");
  const anns = select(plain);
  const others = described.fields.filter((one) => !one.type.includes("Vector") && !one.primaryKey).map((one) => one.name);
  const colour = h("input", { placeholder: others[0] ?? "a key of $meta", "aria-label": "Colour by", size: "14" });
  const sample = select(SAMPLES, { "aria-label": "Sample" });
  const filter = h("input", { class: "code", spellcheck: "false" });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const body = h("div", { class: "map" });

  async function draw() {
    const hits = lastHits.get(described.collectionName) ?? [];
    const shown = [anns.value, key, ...(colour.value ? [colour.value] : [])];
    const ask = (more) => milvus("entities/query", { collectionName: described.collectionName, outputFields: shown, ...more });
    const rows = await ask({ limit: Number(sample.value), filter: filter.value });
    const known = new Set(rows.map((row) => String(row[key])));
    const lacking = hits.filter((id) => !known.has(id));
    if (lacking.length) {
      rows.push(...await milvus("entities/get", { collectionName: described.collectionName, id: lacking, outputFields: shown }));
    }
    const drawn = rows.filter((row) => Array.isArray(row[anns.value]));
    if (drawn.length < 2) throw new Error("Fewer than two vectors: there is nothing to draw.");
    const { points, share } = project(drawn.map((row) => row[anns.value]));
    const values = drawn.map((row) => (colour.value ? cell(row[colour.value]) : ""));
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    const ranked = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a));
    const kinds = values.map((value) => Math.min(ranked.indexOf(value), COLOURS - 1));
    const names = ranked.length > COLOURS ? [...ranked.slice(0, COLOURS - 1), "others"] : ranked;
    fill(body, drawing(points, drawn, kinds, new Set(hits), key),
      h("p", { class: "row legend" },
        colour.value ? names.map((name, place) => h("span", {}, h("i", { class: `kind${place}` }), name)) : null,
        hits.length ? h("span", {}, h("i", { class: "hit" }), "hits of the last search") : null,
        h("span", { class: "faint" }, `${drawn.length} vectors; the plane shows ${percent(share)} of their variance`)));
  }

  const form = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); attempt(problem, draw); } },
    field("Vector field", anns), field("Sample", sample), field("Colour by", colour), field("Filter", filter), h("button", { class: "first" }, "Draw"));
  attempt(problem, draw);
  return [form, problem, body];
}
