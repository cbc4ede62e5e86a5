// Streams with listeners, and channels with subscriptions.

import { h, table, title, trouble, fill } from "./dom.js";
import { number } from "./format.js";
import { afterTyping, pager } from "./pager.js";
import { get, part } from "./requests.js";

export async function render({ query, setQuery }) {
  const prefix = h("input", { type: "search", placeholder: "The beginning of a name", value: query.get("prefix") ?? "" });
  const pages = pager(
    async (after) => {
      const page = await get("streams", { prefix: prefix.value, after, limit: 50 });
      return { rows: page.streams, next: page.next, errors: page.errors };
    },
    (rows) =>
      table(
        "Streams",
        [
          ["Stream", (row) => h("a", { href: `#/streams/${part(row.stream)}` }, row.stream)],
          ["Listeners", (row) => number(row.listeners), "n"],
        ],
        rows,
        "No stream has listeners.",
      ),
  );
  const channels = h("div", {});
  async function readChannels() {
    try {
      const found = await get("channels");
      fill(
        channels,
        table(
          "Channels",
          [
            ["Channel", (row) => row.channel],
            ["Subscriptions", (row) => number(row.subscriptions), "n"],
          ],
          found.channels,
          "No channel has subscriptions.",
        ),
      );
    } catch (error) {
      fill(channels, trouble(error));
    }
  }
  const restart = afterTyping(() => {
    setQuery({ prefix: prefix.value });
    pages.first();
  });
  prefix.addEventListener("input", restart);
  const again = () => Promise.all([pages.again(), readChannels()]);
  await Promise.all([pages.first(), readChannels()]);
  return [
    title("Streams", "Streams with listeners, on all nodes.", h("button", { onclick: again }, "Refresh")),
    h("div.card", {}, h("label", {}, "Name", prefix)),
    pages.list,
    pages.controls,
    h("h2", {}, "Channels"),
    channels,
  ];
}
