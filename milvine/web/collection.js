// One collection: its tabs.

import { milvus, ours, session } from "./api.js";
import { attempt, fill, h, section, table } from "./dom.js";
import { bytes, number } from "./format.js";
import { badge, loadButtons } from "./collections.js";
import { parts, summed } from "./memory.js";
import { dataTab } from "./data.js";
import { mapTab } from "./map.js";
import { searchTab } from "./search.js";

const SECONDS = 2;
const TABS = [["overview", "Memory"], ["schema", "Schema"], ["data", "Data"], ["search", "Search"], ["map", "Map"]];
const SHOWN = { overview: overviewTab, schema: schemaTab, data: dataTab, search: searchTab, map: mapTab };

export function collectionView([name, tab = "overview"], polling) {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const shown = Object.hasOwn(SHOWN, tab) ? tab : "overview";
  const address = (one) => `#/collection/${encodeURIComponent(name)}/${one}`;
  const tabs = h("nav", { class: "tabs", "aria-label": "Tabs", onkeydown: onArrow }, TABS.map(([one, text]) =>
    h("a", { href: address(one), "aria-current": one === shown ? "page" : null, "data-key": one }, text)));
  const heading = h("div", { class: "row" });
  const body = h("div", {});

  function onArrow(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const all = [...tabs.children];
    all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
  }

  async function refresh() {
    const found = await ours("collections", { collectionName: name });
    const [one] = found.collections;
    fill(heading, h("h1", {}, name), badge(one),
      h("span", { class: "faint" }, `${number(one.rows)} rows, ${bytes(one.measuredBytes)} in memory`),
      h("span", { class: "grow" }), loadButtons(one, problem, refresh));
    if (one.reason) fill(problem, one.reason);
    problem.hidden = problem.hidden && !one.reason;
  }

  function fail(error) {
    problem.textContent = error.message;
    problem.hidden = false;
  }

  polling.every(SECONDS, refresh, fail);
  attempt(problem, async () => {
    const described = await milvus("collections/describe", { collectionName: name });
    fill(body, SHOWN[shown](described, polling, fail));
  });
  return [heading, tabs, problem, body];
}

function overviewTab(described, polling, fail) {
  const body = h("div", {});
  async function refresh() {
    const usage = await ours("memory");
    const found = usage.collections.find((one) => one.collectionName === described.collectionName && one.dbName === session.database);
    const segments = (found?.partitions ?? []).flatMap((one) =>
      one.segments.map((segment) => ({ ...segment, partitionName: one.partitionName })));
    fill(body,
      section("By field and index", parts(summed(segments))),
      section("Sealed segments", table(["segment", "partition", ["rows", "number"], ["in memory", "number"], ["estimated", "number"]],
        segments.slice(0, 200).map((one) => [String(one.segmentId), one.partitionName, number(one.rows), bytes(one.measuredBytes), bytes(one.estimatedBytes)]),
        "None is loaded. Rows that are not sealed yet are in the write buffer.")));
  }
  polling.every(SECONDS, refresh, fail);
  return body;
}

function properties(pairs) {
  return pairs.map(({ key, value }) => `${key}=${value}`).join(", ");
}

function flags(field) {
  const named = { primaryKey: "key", autoId: "auto id", nullable: "nullable", partitionKey: "partition key" };
  const found = Object.entries(named).filter(([name]) => field[name]).map(([, text]) => text);
  if (field.defaultValue) found.push(`default ${Object.values(field.defaultValue.Data)[0]}`);
  return found.join(", ");
}

// Without those that have columns of their own.
const parametersOf = (index) => (index.indexParams ?? []).filter(({ key }) => !["index_type", "metric_type"].includes(key));

function schemaTab(described, polling, fail) {
  const indexes = h("div", {});
  async function refresh() {
    const names = await milvus("indexes/list", { collectionName: described.collectionName });
    const found = await Promise.all(names.map((indexName) =>
      milvus("indexes/describe", { collectionName: described.collectionName, indexName })));
    fill(indexes, table(["name", "field", "type", "metric", "state", ["indexed", "number"], ["pending", "number"], "parameters"],
      found.flat().map((one) => [one.indexName, one.fieldName, one.indexType, one.metricType,
        [one.indexState, one.failReason ? h("p", { class: "problem" }, one.failReason) : null],
        number(one.indexedRows), number(one.pendingRows), properties(parametersOf(one))]), "No index."));
  }
  polling.every(SECONDS, refresh, fail);
  const facts = [
    ["description", described.description || "–"],
    ["aliases", described.aliases.join(", ") || "–"],
    ["consistency", described.consistencyLevel],
    ["dynamic field", described.enableDynamicField ? "on" : "off"],
    ["partitions", number(described.partitionsNum)],
    ["functions", described.functions.map((one) => one.name).join(", ") || "–"],
    ["properties", properties(described.properties) || "–"],
  ];
  return [
    section("Fields", table(["name", "type", "parameters", "", "description"], described.fields.map((one) => [
      one.name, one.elementType ? `${one.type} of ${one.elementType}` : one.type, properties(one.params ?? []), flags(one), one.description]))),
    section("Indexes", indexes),
    section("Collection", h("dl", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
  ];
}
