// A client of the cable that shows every message on the wire: Action Cable with AnyCable's extension, in JSON.

import { h } from "./dom.js";
import { clock } from "./format.js";

const SHOWN = 500;
const ANSWER_MS = 5000;

export class Cable {
  /** `facts` are the playground's; `wire` is the list that the messages are added to. */
  constructor(facts, wire) {
    this.facts = facts;
    this.wire = wire;
    this.socket = null;
    this.waiting = new Map();
    this.onclose = null;
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** The address of the WebSocket, with a token if there is one. */
  url(token = "") {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const here = Number(location.port || (scheme === "wss:" ? 443 : 80));
    // Behind a proxy the port of this page leads to the server, too.
    const port = this.facts.is_apart ? this.facts.cable_port : here;
    const query = token ? `?${this.facts.token_param}=${encodeURIComponent(token)}` : "";
    return `${scheme}//${location.hostname}:${port}${this.facts.cable_path}${query}`;
  }

  /** Connects, until the welcome. */
  async open(token = "", pings = true) {
    this.pings = pings;
    const url = this.url(token);
    this.#note(`connect ${url.replace(/\?.*/, "?…")}`);
    const welcome = this.#answer("welcome");
    this.socket = new WebSocket(url, ["actioncable-v1-ext-json", "actioncable-v1-json"]);
    this.socket.addEventListener("message", ({ data }) => this.#take(data));
    this.socket.addEventListener("close", ({ code, reason }) => {
      this.#note(`closed (${code}${reason && `, ${reason}`})`);
      const error = new Error("The connection was closed. The server's log has the reason.");
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
      this.onclose?.();
    });
    await welcome;
  }

  async subscribe(identifier) {
    const confirmed = this.#answer(`confirm_subscription ${identifier}`, `reject_subscription ${identifier}`);
    this.send({ command: "subscribe", identifier });
    await confirmed;
  }

  /** Sends a command and shows it. */
  send(command) {
    if (!this.isOpen) throw new Error("Connect first.");
    const text = JSON.stringify(command);
    this.#line("sent", "↑", text);
    this.socket.send(text);
  }

  close() {
    this.socket?.close();
  }

  #answer(kind, refusal = "disconnect") {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("The server did not answer in time.")), ANSWER_MS);
      const settle = (call) => (value) => {
        clearTimeout(timer);
        this.waiting.delete(kind);
        this.waiting.delete(refusal);
        call(value);
      };
      const entry = { resolve: settle(resolve), reject: settle(reject) };
      this.waiting.set(kind, entry);
      this.waiting.set(refusal, { ...entry, resolve: () => entry.reject(new Error("The server refused it.")) });
    });
  }

  #take(text) {
    let message = {};
    try {
      message = JSON.parse(text);
    } catch { /* shown as it is */ }
    if (message.type === "ping" && !this.pings) return;
    const kind = message.type ?? "message";
    const refused = kind.startsWith("reject") || kind === "disconnect";
    this.#line(`received ${refused ? "refused" : ""} ${kind === "message" ? "message" : ""}`, "↓", text);
    const entry = this.waiting.get(kind) ?? this.waiting.get(`${kind} ${message.identifier}`);
    entry?.resolve(message);
  }

  #note(text) {
    this.#line("note", "·", text);
  }

  #line(kind, way, text) {
    append(this.wire, h("div", { class: kind }, h("time", {}, clock()), h("span.way", {}, way), h("span", {}, text)));
  }
}

/** Adds a line to a log that keeps its newest lines, and scrolls with it unless a person reads further up. */
export function append(log, line) {
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(line);
  while (log.children.length > SHOWN) log.firstElementChild.remove();
  if (follows) log.scrollTop = log.scrollHeight;
}
