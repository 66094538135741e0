// The frame: header, addresses, login, theme, polling.

import { logIn, milvus, session } from "./api.js";
import { button, field, fill, form, h, select } from "./dom.js";
import { collectionView } from "./collection.js";
import { collectionsView } from "./collections.js";
import { accessView } from "./access.js";
import { switchTheme, useChosenTheme } from "./theme.js";
import { workView } from "./work.js";

const PLACES = [["collections", "Collections"], ["work", "Work"], ["access", "Users and roles"]];
const VIEWS = { collections: collectionsView, collection: collectionView, work: workView, access: accessView };

const main = h("main", { tabindex: "-1" });
const links = h("nav", { "aria-label": "Places" });
const databases = h("span", {});
const who = h("span", { class: "row" });
let leave = () => {};

/** Runs `step` now and every `seconds` while the view is shown and the page is visible. Its errors are `onerror`'s. */
function poller() {
  const timers = [];
  return {
    every(seconds, step, onerror) {
      let isBusy = false;
      const run = async () => {
        if (isBusy || document.hidden) return;
        isBusy = true;
        try {
          await step();
        } catch (error) {
          onerror(error);
        }
        isBusy = false;
      };
      timers.push(setInterval(run, seconds * 1000));
      return run();
    },
    stop: () => timers.forEach(clearInterval),
  };
}

function place() {
  try {
    const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
    return Object.hasOwn(VIEWS, name) ? [name, rest] : ["collections", []];
  } catch {
    return ["collections", []];
  }
}

function show() {
  leave();
  const [name, rest] = place();
  const polling = poller();
  leave = polling.stop;
  document.title = rest[0] ? `${rest[0]} · Milvine` : "Milvine";
  fill(links, PLACES.map(([path, text]) => h("a", {
    href: `#/${path}`, "aria-current": path === name || (path === "collections" && name === "collection") ? "page" : null,
  }, text)));
  fill(main, VIEWS[name](rest, polling));
}

async function showDatabases() {
  const names = await milvus("databases/list");
  const known = names.includes(session.database) ? names : [session.database, ...names];
  fill(databases, select(known, {
    "aria-label": "Database",
    onchange(event) {
      session.database = event.target.value;
      location.hash = "#/collections";
      show();
    },
  }, session.database));
  fill(who, session.token ? [h("span", { class: "faint" }, session.user), button("Log out", logOut)] : null);
}

function logOut() {
  session.end();
  location.reload();
}

function showLogin() {
  leave();
  leave = () => {};
  fill(links);
  fill(databases);
  fill(who);
  const user = h("input", { name: "user", autocomplete: "username", required: "" });
  const password = h("input", { name: "password", type: "password", autocomplete: "current-password", required: "" });
  const key = h("input", { name: "key", type: "password", autocomplete: "off", required: "" });
  const enter = (read) => async () => {
    try {
      await logIn(read());
    } catch (error) {
      throw error.code === 401 ? new Error("The server does not know this user and password, or this key.") : error;
    }
    start();
  };
  fill(main, h("div", { class: "login" },
    h("h1", {}, "Log in"),
    form([field("User", user), field("Password", password), h("button", { class: "first" }, "Log in")],
      enter(() => `${user.value}:${password.value}`)),
    h("details", {}, h("summary", {}, "With an API key"),
      form([field("API key", key), h("button", {}, "Use key")], enter(() => key.value)))));
  user.focus();
}

function onKey(event) {
  const isTyping = event.target.closest?.("input, textarea, select, dialog");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const wanted = { 1: "collections", 2: "work", 3: "access" }[event.key];
  if (wanted) location.hash = `#/${wanted}`;
  if (event.key === "/") {
    const first = main.querySelector("input, textarea");
    if (first) event.preventDefault();
    first?.focus();
  }
}

async function start() {
  try {
    await showDatabases();
  } catch (error) {
    if (error.code !== 401) fill(main, h("p", { class: "problem", role: "alert" }, error.message));
    return;
  }
  show();
}

useChosenTheme();
document.body.append(
  h("header", {},
    h("a", { class: "name", href: "#/collections" }, h("img", { src: "/web/icon.svg", alt: "" }), "Milvine"),
    links, h("span", { class: "grow" }), databases,
    h("a", { href: "/docs" }, "API"),
    button("Light or dark", switchTheme, { class: "quiet", title: "Light or dark" }),
    who),
  main);
window.addEventListener("hashchange", show);
window.addEventListener("login-needed", showLogin);
document.addEventListener("keydown", onKey);
start();
