// Users, their roles, and what roles may do.

import { milvus, session } from "./api.js";
import { attempt, button, confirmed, field, fill, form, h, section, select, table } from "./dom.js";

const ROOT = "root";
const ADMIN = "admin";
const BUILT_IN = [ADMIN, "public"];

export function accessView() {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const users = h("div", {});
  const roles = h("div", {});
  const grantedRole = h("select", {});

  async function refresh() {
    const [userNames, roleNames] = await Promise.all([milvus("users/list"), milvus("roles/list")]);
    const held = await Promise.all(userNames.map((userName) => milvus("users/describe", { userName })));
    const grants = await Promise.all(roleNames.map((roleName) => milvus("roles/describe", { roleName, dbName: "*" })));
    fill(users, usersTable(userNames, held, roleNames));
    fill(roles, rolesTable(roleNames, grants));
    const chosen = grantedRole.value;
    fill(grantedRole, roleNames.map((name) => h("option", { value: name, selected: name === chosen }, name)));
  }

  const change = (path, body) => async () => {
    await milvus(path, body);
    await refresh();
  };
  const now = (path, body) => () => attempt(problem, change(path, body));

  function usersTable(names, held, roleNames) {
    return table(["user", "roles", ["", "actions"], ["", "actions"]], names.map((userName, place) => {
      const others = roleNames.filter((name) => !held[place].includes(name));
      const role = select(others, { "aria-label": `Role for ${userName}` });
      return [userName,
        h("span", { class: "row" }, held[place].map((roleName) => h("span", { class: "badge" }, roleName, " ",
          button("×", now("users/revoke_role", { userName, roleName }), { class: "quiet", "aria-label": `Take ${roleName} from ${userName}` })))),
        others.length ? h("span", { class: "row" }, role,
          button("Give", () => now("users/grant_role", { userName, roleName: role.value })(), { "aria-label": `Give the role to ${userName}` })) : null,
        userName === ROOT ? null : button("Drop", () => confirmed(`Drop the user ${userName}?`, "Drop user", change("users/drop", { userName })), { "aria-label": `Drop ${userName}` })];
    }));
  }

  function newUser() {
    const name = h("input", { required: "", autocomplete: "off" });
    const password = h("input", { type: "password", required: "", autocomplete: "new-password" });
    return form(h("div", { class: "row" }, field("New user", name), field("Password", password), h("button", {}, "Create user")),
      () => change("users/create", { userName: name.value, password: password.value })());
  }

  function rolesTable(names, grants) {
    return table(["role", "may", ["", "actions"]], names.map((roleName, place) => [roleName,
      roleName === ADMIN ? h("span", { class: "faint" }, "everything") : h("span", { class: "row" }, grants[place].map((one) => h("span", { class: "badge" }, `${one.privilege} on ${one.dbName}.${one.objectName} `,
        button("×", now("roles/revoke_privilege_v2", { roleName, privilege: one.privilege, dbName: one.dbName, collectionName: one.objectName }),
          { class: "quiet", "aria-label": `Take ${one.privilege} from ${roleName}` })))),
      BUILT_IN.includes(roleName) ? null : button("Drop", () => confirmed(`Drop the role ${roleName}?`, "Drop role", change("roles/drop", { roleName })), { "aria-label": `Drop ${roleName}` })]));
  }

  function newRole() {
    const name = h("input", { required: "" });
    return form(h("div", { class: "row" }, field("New role", name), h("button", {}, "Create role")),
      () => change("roles/create", { roleName: name.value })());
  }

  function newGrant() {
    const privilege = h("input", { required: "", placeholder: "Search" });
    const database = h("input", { value: session.database, required: "" });
    const collection = h("input", { value: "*", required: "" });
    return form(h("div", { class: "row" }, field("Role", grantedRole), field("Privilege or group", privilege), field("Database", database),
      field("Collection", collection), h("button", {}, "Grant"),
      session.token ? null : h("small", {}, "Granting needs a user who is logged in.")),
    () => change("roles/grant_privilege_v2", { roleName: grantedRole.value, privilege: privilege.value, dbName: database.value, collectionName: collection.value })());
  }

  attempt(problem, refresh);
  return [h("h1", {}, "Users and roles"), problem, section("Users", users, newUser()), section("Roles", roles, newRole(), newGrant())];
}
