// One client: who it is, its subscriptions, what happens to it now.

import { append } from "./cable.js";
import { facts, fill, h, table, title, trouble } from "./dom.js";
import { ago, clock } from "./format.js";
import { get, part, post, remove } from "./requests.js";

export async function render({ id: sid, signal }) {
  const about = h("section.card", { "aria-label": "About this client" });
  const subscriptions = h("div", {});
  const result = h("div", { role: "status" });

  async function read() {
    try {
      const client = await get(`connections/${part(sid)}`);
      fill(about, described(client));
      fill(subscriptions, subscriptionTable(client.subscriptions, unsubscribe));
    } catch (error) {
      fill(about, error.status === 404 ? h("p", {}, "This client is not connected any more.") : trouble(error));
      fill(subscriptions);
    }
  }
  async function carryOut(action, done) {
    try {
      await action();
      fill(result, h("p.dim", {}, done));
    } catch (error) {
      fill(result, trouble(error));
    }
    await read();
  }
  const unsubscribe = (identifier) =>
    carryOut(
      () => remove(`connections/${part(sid)}/subscriptions`, {}, { identifier }),
      "The server has ended the subscription.",
    );
  const disconnect = (reconnect) =>
    carryOut(
      () => remove(`connections/${part(sid)}`, { reconnect }),
      reconnect ? "Disconnected; the client may reconnect." : "Disconnected; the client does not reconnect by itself.",
    );

  await read();
  return [
    title(
      "Client",
      h("span.mono", {}, sid),
      h("button", { onclick: () => disconnect(true) }, "Reconnect"),
      h("button.danger", { onclick: () => disconnect(false) }, "Disconnect"),
    ),
    result,
    about,
    h("h2", {}, "Subscriptions"),
    subscriptions,
    subscribeForm(sid, carryOut),
    h("h2", {}, "Live trace"),
    trace({ sid }, signal),
  ];
}

function described(client) {
  return facts([
    ["Identifiers", h("code", {}, client.identifiers || "–")],
    ["Address", client.address || "–"],
    ["Path", client.path || "–"],
    ["Transport", [client.transport, client.protocol].filter(Boolean).join(", ")],
    ["Connected", ago(client.connected_at)],
    ["Node", client.node],
  ]);
}

function subscriptionTable(subscriptions, unsubscribe) {
  return table(
    "Subscriptions",
    [
      ["Identifier", (row) => h("code", {}, row.identifier)],
      ["Streams", (row) => row.streams.map((each) => h("div", {}, h("a", { href: `#/streams/${part(each)}` }, each)))],
      ["", (row) => h("button", { onclick: () => unsubscribe(row.identifier), "aria-label": `Unsubscribe ${row.identifier}` }, "Unsubscribe"), "n"],
    ],
    subscriptions,
    "No subscriptions.",
  );
}

function subscribeForm(sid, carryOut) {
  const identifier = h("input", { class: "mono", value: '{"channel":"$pubsub","stream_name":"hello"}', spellcheck: "false" });
  return h(
    "form.card.row",
    {
      onsubmit: (event) => {
        event.preventDefault();
        carryOut(
          () => post(`connections/${part(sid)}/subscriptions`, {}, { identifier: identifier.value }),
          "The server has subscribed the client.",
        );
      },
    },
    h("label", {}, "Identifier to subscribe this client to", identifier),
    h("button", {}, "Subscribe"),
  );
}

/** Towards the client, and from it. */
const SIGNS = { transmitted: "↓", delivered: "↓", whispered: "↑", received: "↑" };
const KINDS = {
  following: "note",
  unanswered: "refused",
  dropped: "refused",
  rejected: "refused",
  refused: "refused",
  failed: "refused",
  request_refused: "refused",
  subscription_rejected: "refused",
  publication_refused: "refused",
  disconnected: "refused",
  received: "sent",
};

/** The events of a client or a stream as they happen, from every node. */
export function trace(filter, signal) {
  const log = h("div.wire", { tabindex: "0", role: "log", "aria-label": "Live trace" });
  const state = h("span.dim", { role: "status" }, "connecting");
  const source = new EventSource(`api/events?${new URLSearchParams(filter)}`);
  signal.addEventListener("abort", () => source.close());
  source.addEventListener("open", () => (state.textContent = "waiting for events"));
  source.addEventListener("error", () => (state.textContent = "no answer, trying again"));
  source.addEventListener("message", ({ data }) => {
    let event = {};
    try {
      event = JSON.parse(data);
    } catch {
      event = { event: data };
    }
    const { ts, event: name = "event", node, worker, ...rest } = event;
    if (rest.sid === filter.sid) delete rest.sid;
    state.textContent = "";
    append(
      log,
      h(
        "div",
        { class: KINDS[name] ?? "received", title: `Node ${node}${worker ? `, worker ${worker}` : ""}` },
        h("time", {}, clock(ts)),
        h("span.way", {}, SIGNS[name] ?? "·"),
        h("span", {}, h("strong", {}, name), " ", details(rest)),
      ),
    );
  });
  return h("div.stack", {}, log, state);
}

function details(rest) {
  return Object.entries(rest)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}
