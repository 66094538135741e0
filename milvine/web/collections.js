// All collections of a database, live.

import { milvus, ours } from "./api.js";
import { attempt, button, fill, h, table } from "./dom.js";
import { bytes, number, state } from "./format.js";
import { bar, budget, chooseFields, nodes } from "./memory.js";

const SECONDS = 2;
const MOST = 200;

export function badge({ loadState, loadProgress, isResting }) {
  if (isResting)
    return h("span", { class: "badge", title: "Loaded; it has given its memory back until the next read." }, "Resting");
  const text = loadState === "LoadStateLoading" ? `Loading ${loadProgress} %` : state(loadState);
  return h("span", { class: `badge ${loadState}` }, text);
}

/** The buttons that load and release a collection. */
export function loadButtons(found, problem, refresh) {
  const name = found.collectionName;
  const then = (path) => () => attempt(problem, async () => {
    await milvus(path, { collectionName: name });
    await refresh();
  });
  const key = (what) => ({ "data-key": `${what} ${name}`, "aria-label": `${what} ${name}` });
  return h("span", { class: "row" },
    found.loadState === "LoadStateNotLoad"
      ? button("Load", then("collections/load"), key("Load"))
      : button("Release", then("collections/release"), key("Release")),
    button("Choose fields…", () => attempt(problem, () => chooseFields(name, refresh)), key("Choose fields of")));
}

export function collectionsView(_rest, polling) {
  const memory = h("div", {});
  const list = h("div", {});
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  let collections = [];
  let limit = 1;
  const filter = h("input", { type: "search", placeholder: "Find a collection  ( / )", "aria-label": "Find a collection", oninput: render });

  function render() {
    const wanted = filter.value.toLowerCase();
    const matching = collections.filter((one) => one.collectionName.toLowerCase().includes(wanted));
    fill(list, table(
      ["name", "state", ["rows", "number"], ["fields", "number spare"], ["memory", "number"], ["", "wide"], ["", "actions"]],
      matching.slice(0, MOST).map((one) => [
        h("a", { href: `#/collection/${encodeURIComponent(one.collectionName)}`, "data-key": one.collectionName }, one.collectionName),
        [badge(one), one.reason ? h("p", { class: "problem" }, one.reason) : null],
        number(one.rows), number(one.fields), bytes(one.measuredBytes),
        bar([[one.measuredBytes, bytes(one.measuredBytes)], [one.reservedBytes, `reserved ${bytes(one.reservedBytes)}`, "reserved"]], limit),
        loadButtons(one, problem, refresh),
      ]),
      collections.length ? "No collection has such a name." : "This database has no collections."),
    matching.length > MOST ? h("p", { class: "faint" }, `${matching.length - MOST} more; type a part of the name.`) : null);
  }

  async function refresh() {
    const found = await ours("collections");
    collections = found.collections;
    limit = found.memory.limitBytes;
    fill(memory, budget(found.memory), nodes(found.memory.nodes));
    render();
  }

  polling.every(SECONDS, refresh, (error) => {
    problem.textContent = error.message;
    problem.hidden = false;
  });
  return [h("div", { class: "row" }, h("h1", {}, "Collections"), h("span", { class: "grow" }), filter), problem, memory, list];
}
