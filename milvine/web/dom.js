// Elements. Every string becomes a text node or an attribute, never markup.

const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "hidden", "open"]);

/** An element. Properties that start with `on` are listeners, `style` is an object; null children are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...content(children));
  return element;
}

function content(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Replaces what is in `parent`; the element with the focus keeps it if the new content has its `data-key`. */
export function fill(parent, ...children) {
  const key = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...content(children));
  if (key) [...parent.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus();
}

/** A table. `columns`: texts, or [text, class]; `rows`: lists of cells, whose class is that of their column. */
export function table(columns, rows, empty = "Nothing here.") {
  const named = columns.map((column) => (Array.isArray(column) ? column : [column, ""]));
  if (!rows.length) return h("p", { class: "empty" }, empty);
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, named.map(([text, kind]) => h("th", { class: kind, scope: "col" }, text)))),
    h("tbody", {}, rows.map((cells) =>
      h("tr", {}, cells.map((cell, place) => h("td", { class: named[place][1] }, cell)))))));
}

export function button(text, onclick, properties = {}) {
  return h("button", { type: "button", onclick, "data-key": text, ...properties }, text);
}

export function field(label, input) {
  input.setAttribute("aria-label", label);
  return h("label", { class: "field" }, h("span", {}, label), input);
}

export function select(options, properties = {}, chosen = undefined) {
  return h("select", properties, options.map((option) => {
    const [value, text] = Array.isArray(option) ? option : [option, option];
    return h("option", { value, selected: value === chosen }, text);
  }));
}

export function section(title, ...children) {
  return h("section", {}, h("h2", {}, title), children);
}

/** A form that runs `action` when it is sent and shows its error beneath. */
export function form(children, action) {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const element = h("form", {
    async onsubmit(event) {
      event.preventDefault();
      await attempt(problem, action);
    },
  }, children, problem);
  return element;
}

/** Runs `action`; its error becomes the text of `problem`. Returns whether it succeeded. */
export async function attempt(problem, action) {
  problem.hidden = true;
  try {
    await action();
    return true;
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    return false;
  }
}

/** A modal dialog, which closes by Escape or by its `close`. */
export function showDialog(title, ...children) {
  const dialog = h("dialog", { "aria-label": title, onclose: () => dialog.remove() }, h("h2", {}, title), children);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks before `action`, and shows its error. */
export function confirmed(question, verb, action) {
  const dialog = showDialog(question, form([h("div", { class: "row end" },
    button("Cancel", () => dialog.close()),
    h("button", { class: "danger" }, verb))], async () => {
    await action();
    dialog.close();
  }));
}
