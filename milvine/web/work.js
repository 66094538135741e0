// What runs in the background, and requests that took long.

import { ours } from "./api.js";
import { button, fill, h, section, table } from "./dom.js";
import { milliseconds, moment, number } from "./format.js";
import { bar } from "./memory.js";

const SECONDS = 2;

export function workView(_rest, polling) {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const work = h("div", {});
  const slow = h("div", {});
  const fail = (error) => {
    problem.textContent = error.message;
    problem.hidden = false;
  };

  polling.every(SECONDS, async () => {
    const found = await ours("work");
    fill(work,
      found.warnings.length ? section("Warnings", h("ul", {}, found.warnings.map((text) => h("li", {}, text)))) : null,
      section("Index builds", table(["collection", "index", "state", ["indexed", "number"], ["rows", "number"], ["", "wide"]],
        found.builds.map((one) => [`${one.dbName}.${one.collectionName}`, one.indexName,
          [one.isRunning ? `building for ${milliseconds(one.milliseconds)}` : "waiting", one.jobId ? ` (import ${one.jobId})` : null, one.reason ? h("p", { class: "problem" }, one.reason) : null],
          number(one.indexedRows), number(one.totalRows), bar([[one.indexedRows, `${one.indexedRows} of ${one.totalRows}`]], one.totalRows)]),
        "No index is being built.")),
      section("Merges", table(["collection", "state", ["segments", "number"], ["rows", "number"]],
        found.merges.map((one) => [`${one.dbName}.${one.collectionName}`, one.state, number(one.segments), number(one.rows)]),
        "No segments are being merged.")),
      section("Imports", table(["collection", "job", "state", ["files", "number"], ["rows", "number"], ["", "wide"]],
        found.imports.map((one) => [`${one.dbName}.${one.collectionName}`, one.jobId,
          [one.state, one.reason ? h("p", { class: "problem" }, one.reason) : null],
          number(one.files), number(one.rows), bar([[one.progress, `${one.progress} %`]], 100)]),
        "Nothing has been imported in the last hours.")));
  }, fail);

  async function showSlow() {
    const found = await ours("slow_requests");
    fill(slow, h("p", { class: "faint" }, `Requests of at least ${found.slowSeconds} s, newest first; at most ${found.kept} are kept.`),
      table(["time", "call", "collection", "user", ["took", "number"], ["code", "number"], "slowest segment"], found.requests.map((one) => [
        h("time", { datetime: one.time, title: one.time }, moment(one.time)), one.call, [one.dbName, one.on?.collection].filter(Boolean).join("."), one.user ?? "", milliseconds(one.ms), number(one.code),
        one.segments?.length ? `${one.segments[0].plan}, ${number(one.segments[0].rows)} rows, ${milliseconds(one.segments[0].ms)}` : ""]),
      "None."));
  }
  polling.every(5 * SECONDS, showSlow, fail);
  return [h("h1", {}, "Work"), problem, work, section("Slow requests", button("Refresh", () => showSlow().catch(fail)), slow)];
}
