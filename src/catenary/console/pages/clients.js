// Clients: searched by the server, a page at a time.

import { h, table, title } from "./dom.js";
import { ago, nodeName, number } from "./format.js";
import { afterTyping, pager } from "./pager.js";
import { get, part } from "./requests.js";

const LIMIT = 50;
const FILTERS = [
  ["identifiers", "Identifiers"],
  ["address", "Address"],
  ["path", "Path"],
  ["stream", "Stream"],
  ["identifier", "Subscription"],
  ["transport", "Transport"],
  ["node", "Node"],
  ["min_subscriptions", "Subscriptions, at least"],
];

export async function render({ query, setQuery }) {
  const search = h("input", { type: "search", placeholder: "sid, identifiers, address, path", value: query.get("q") ?? "" });
  const fields = FILTERS.map(([name, text]) => [name, h("input", { name, value: query.get(name) ?? "" }), text]);
  const filter = () => ({
    q: search.value.trim(),
    ...Object.fromEntries(fields.map(([name, input]) => [name, input.value.trim()])),
  });
  const pages = pager(
    async (after) => {
      const chosen = filter();
      const page = await get("connections", { ...chosen, after, limit: LIMIT });
      const { count } = await get("connections/count", chosen).catch(() => ({}));
      const status = count === undefined ? "" : `${number(count)} ${count === 1 ? "client" : "clients"}`;
      return { rows: page.connections, next: page.next, errors: page.errors, status };
    },
    (rows) => clientTable(rows, "No client matches."),
  );
  const restart = afterTyping(() => {
    setQuery(filter());
    pages.first();
  });
  for (const input of [search, ...fields.map(([, input]) => input)]) input.addEventListener("input", restart);
  await pages.first();
  const used = fields.some(([, input]) => input.value);
  return [
    title("Clients", "All clients that are connected to the cluster.", h("button", { onclick: () => pages.again() }, "Refresh")),
    h("section.card.stack", { "aria-label": "Search" },
      h("label", {}, "Search", search),
      h("details", { open: used },
        h("summary", {}, "More filters"),
        h("div.row", {}, fields.map(([, input, text]) => h("label", {}, text, input))),
      ),
    ),
    pages.list,
    pages.controls,
  ];
}

/** Clients as a table, each with a link to its page. */
export function clientTable(rows, empty) {
  return table(
    "Clients",
    [
      ["Session", (row) => h("a.mono", { href: `#/clients/${part(row.sid)}` }, row.sid)],
      ["Identifiers", (row) => h("span.mono", {}, row.identifiers || "–")],
      ["Address", (row) => row.address ?? "", "keep"],
      ["Path", (row) => row.path ?? ""],
      ["Transport", (row) => [row.transport, row.protocol && h("div.dim", {}, row.protocol)], "keep"],
      ["Connected", (row) => ago(row.connected_at), "keep"],
      ["Subscriptions", (row) => number(row.subscriptions), "n"],
      ["Node", (row) => h("span", { title: row.node }, nodeName(row.node)), "keep"],
    ],
    rows,
    empty,
  );
}
