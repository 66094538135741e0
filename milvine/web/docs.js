// The routes of REST, from the server's own description.

import { button, fill, h, section, table } from "./dom.js";
import { switchTheme, useChosenTheme } from "./theme.js";

function typeName(schema) {
  if (schema.type === "array") return `list of ${typeName(schema.items)}`;
  return schema.format ?? schema.type ?? "any value";
}

/** Names, types and whether they are required; keys of inner objects after a dot. */
function keys(schema, before = "") {
  return Object.entries(schema.properties ?? {}).flatMap(([name, found]) => {
    const inner = found.type === "array" ? found.items : found;
    return [[before + name, typeName(found), schema.required?.includes(name) ? "required" : ""],
      ...keys(inner, `${before}${name}.`)];
  });
}

function route(path, method, operation) {
  const body = operation.requestBody?.content["application/json"].schema;
  const query = (operation.parameters ?? []).map((one) => [one.name, typeName(one.schema), one.required ? "required" : ""]);
  const rows = body ? keys(body) : query;
  return h("details", { class: "route" },
    h("summary", {}, h("span", { class: "badge" }, method.toUpperCase()), " ", h("span", { class: "code" }, path),
      operation.deprecated ? h("small", {}, " refused") : null),
    operation.description ? h("p", {}, operation.description) : null,
    rows.length ? table(["key", "type", ""], rows) : h("p", { class: "faint" }, "No keys."));
}

async function show() {
  const described = await (await fetch("/openapi.json")).json();
  const body = h("div", {});
  const filter = h("input", { type: "search", placeholder: "Find a route  ( / )", "aria-label": "Find a route", oninput: render });
  const all = Object.entries(described.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, tag: operation.tags[0], line: route(path, method, operation) })));
  const tags = [...new Set(all.map((one) => one.tag))];

  function render() {
    const wanted = filter.value.toLowerCase();
    const found = all.filter((one) => one.path.toLowerCase().includes(wanted));
    fill(body, tags.map((tag) => {
      const lines = found.filter((one) => one.tag === tag).map((one) => one.line);
      return lines.length ? section(`${tag}, ${lines.length} routes`, lines) : null;
    }));
  }

  render();
  fill(main, h("div", { class: "row" }, h("h1", {}, `REST of Milvine ${described.info.version}`), h("span", { class: "grow" }), filter),
    h("p", {}, described.info.description, " ", h("a", { href: "/openapi.json" }, "OpenAPI 3.1")), body);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target === filter) return;
    event.preventDefault();
    filter.focus();
  });
}

useChosenTheme();
const main = h("main", {});
document.body.append(
  h("header", {}, h("a", { class: "name", href: "/" }, h("img", { src: "/web/icon.svg", alt: "" }), "Milvine"),
    h("span", { class: "grow" }), button("Light or dark", switchTheme, { class: "quiet" })),
  main);
show().catch(() => fill(main, h("p", { class: "problem", role: "alert" }, "The server does not answer.")));
