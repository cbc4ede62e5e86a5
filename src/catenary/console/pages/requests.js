// Requests to the server: JSON below api/, with errors as exceptions.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path, query) => request("GET", path, query);
export const post = (path, query, body) => request("POST", path, query, body);
export const remove = (path, query, body) => request("DELETE", path, query, body);

async function request(method, path, query = {}, body = undefined) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given).toString();
  const headers = { "X-Catenary-Console": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(`api/${path}${search && `?${search}`}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (answer.status === 401) {
    location.replace("login");
    throw new Refused(401, "The session is over.");
  }
  const text = await answer.text();
  let content = null;
  try {
    content = text ? JSON.parse(text) : null;
  } catch {
    content = { error: text.trim() };
  }
  if (!answer.ok) throw new Refused(answer.status, content?.error || `The server answered ${answer.status}.`);
  return content;
}

/** An element of a path. */
export const part = encodeURIComponent;
