// One stream: its listeners, its members, its history, its events, and a form that publishes to it.

import { trace } from "./client.js";
import { clientTable } from "./clients.js";
import { fill, h, table, title, trouble } from "./dom.js";
import { number } from "./format.js";
import { pager } from "./pager.js";
import { get, part, post } from "./requests.js";

export async function render({ id: stream, signal }) {
  const members = h("div", {});
  const history = pager(
    async (before) => {
      const page = await get(`history/${part(stream)}`, { order: "newest", limit: 20, before });
      const oldest = page.messages.at(-1);
      return { rows: page.messages, next: page.more && oldest ? `${oldest.offset}:${page.epoch}` : null };
    },
    (rows) =>
      table(
        "History",
        [
          ["Offset", (row) => number(row.offset), "keep"],
          ["Message", (row) => h("code", {}, row.data)],
        ],
        rows,
        "No message is kept.",
      ),
  );
  const listeners = pager(
    async (after) => {
      const page = await get("connections", { stream, after, limit: 20 });
      return { rows: page.connections, next: page.next, errors: page.errors };
    },
    (rows) => clientTable(rows, "Nobody listens."),
  );
  async function readMembers() {
    try {
      const { records = [] } = await get(`presence/${part(stream)}/users`);
      fill(
        members,
        table(
          "Members",
          [
            ["Member", (row) => row.id],
            ["Info", (row) => h("code", {}, JSON.stringify(row.info))],
          ],
          records,
          "Nobody is present.",
        ),
      );
    } catch (error) {
      fill(members, h("div.card.empty", {}, error.message));
    }
  }
  const readAll = () => Promise.all([history.first(), listeners.first(), readMembers()]);
  await readAll();
  return [
    title("Stream", h("span.mono", {}, stream), h("button", { onclick: readAll }, "Refresh")),
    publishForm(stream, () => history.first()),
    h("h2", {}, "Listeners"),
    listeners.list,
    listeners.controls,
    h("h2", {}, "Members"),
    members,
    h("h2", {}, "History, newest first"),
    history.list,
    history.controls,
    h("h2", {}, "Live trace"),
    trace({ stream }, signal),
  ];
}

function publishForm(stream, done) {
  const data = h("textarea", { rows: 2, class: "mono", spellcheck: "false" }, '{"text":"Hello"}');
  const result = h("span.dim", { role: "status" });
  return h(
    "form.card.stack",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        try {
          await post("publish", {}, { stream, data: data.value });
          result.textContent = "Published.";
          await done();
        } catch (error) {
          fill(result, trouble(error));
        }
      },
    },
    h("label", {}, "Message", data),
    h("div.row", {}, h("button.primary", {}, "Publish"), result),
  );
}

