// Health: what this node reaches, and whether it should receive clients.

import { fill, h, table, title, trouble } from "./dom.js";
import { ago } from "./format.js";
import { get } from "./requests.js";

export async function render({ figures, signal }) {
  const checks = h("div", {});
  let readings = 0;
  async function read() {
    try {
      const health = await get("health");
      if (!signal.aborted) fill(checks, shown(health));
    } catch (error) {
      fill(checks, trouble(error));
    }
  }
  figures.listen(() => readings++ && read(), signal);
  await read();
  return [title("Health", "Redis, NATS, the application and the parts of this node. Off: not configured."), checks];
}

/** The checks of the parts that are on, in one line for the overview. */
export function chips(health) {
  const on = (health.checks ?? []).filter(({ state }) => state !== "off");
  const failing = on.filter(({ state }) => state === "failing");
  return h(
    "div.card.stack",
    {},
    h("ul.chips", {}, on.map(({ name, state }) => h("li", {}, h(`span.state.${state}`, {}, `${name} ${state}`)))),
    failing.map(({ name, reason }) => h("p.error", {}, `${name}: ${reason}`)),
    h("p.dim", {}, h("a", { href: "#/health" }, "Reasons, and since when")),
  );
}

/** The checks as a table. */
function shown(health) {
  return table(
    "Health",
    [
      ["Check", (row) => row.name],
      ["State", (row) => h(`span.state.${row.state}`, {}, row.state), "keep"],
      ["Since", (row) => (row.since ? ago(row.since) : ""), "keep"],
      ["Reason", (row) => row.reason ?? ""],
    ],
    health.checks ?? [],
    "This server depends on nothing else.",
  );
}
