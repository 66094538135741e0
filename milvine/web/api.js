// Calls of this server. The token is kept for this tab only.

const TOKEN = "milvine.token";
const DATABASE = "milvine.database";
const MILVUS = "/v2/vectordb/";
const OURS = "/milvine/v1/";

export class Refused extends Error {
  constructor(code, message) {
    super(message || `error ${code}`);
    this.code = code;
  }
}

export const session = {
  get token() {
    return sessionStorage.getItem(TOKEN) ?? "";
  },
  set token(value) {
    sessionStorage.setItem(TOKEN, value);
  },
  get user() {
    return this.token.includes(":") ? this.token.split(":", 1)[0] : this.token && "API key";
  },
  get database() {
    return sessionStorage.getItem(DATABASE) ?? "default";
  },
  set database(value) {
    sessionStorage.setItem(DATABASE, value);
  },
  end() {
    sessionStorage.clear();
  },
};

function authorization(token) {
  if (!token.includes(":")) return `Bearer ${token}`;
  return `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(token)))}`;
}

/** JSON in which integers that a number cannot hold become texts, where the browser shows their digits. */
export function decoded(text) {
  return JSON.parse(text, (_key, value, context) =>
    typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)
      ? context?.source ?? value : value);
}

async function post(path, body, token) {
  const headers = { "Content-Type": "application/json", "Accept-Type-Allow-Int64": "false" };
  if (token) headers.Authorization = authorization(token);
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (answer.status === 401) throw new Refused(401, "Please log in.");
  const found = decoded(await answer.text());
  if (found.code !== 0) throw new Refused(found.code, found.message);
  return found;
}

async function ask(path, body) {
  try {
    return (await post(path, { dbName: session.database, ...body }, session.token)).data;
  } catch (error) {
    if (error.code === 401) window.dispatchEvent(new Event("login-needed"));
    throw error;
  }
}

/** The data of a route of Milvus's REST v2. */
export function milvus(path, body = {}) {
  return ask(MILVUS + path, body);
}

/** The data of a route of Milvine's own. */
export function ours(path, body = {}) {
  return ask(OURS + path, body);
}

/** Keeps `token` for later calls if the server accepts it. */
export async function logIn(token) {
  await post(`${OURS}collections`, {}, token);
  session.token = token;
}
