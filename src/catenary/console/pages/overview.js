// Overview: the cluster at a glance, and a first message for a stranger.

import { Cable } from "./cable.js";
import { choices, fill, h, table, title, trouble } from "./dom.js";
import { CLUSTER, MEASURES, plain } from "./figures.js";
import { ago, bytes, duration, nodeName, number } from "./format.js";
import { chips } from "./health.js";
import { plot } from "./plot.js";
import { get, post } from "./requests.js";

let view = "cluster";

export async function render({ figures, signal }) {
  const plots = MEASURES.map((measure) => ({ measure, ...plot(measure) }));
  const failure = h("div", {});
  const nodes = h("div", {});
  const checks = h("div", {});
  const known = new Map();

  function draw() {
    const silent = figures.latest?.errors ?? [];
    fill(
      failure,
      figures.error && trouble(figures.error),
      silent.map(({ node, error }) => trouble(`Node ${nodeName(node)} does not answer: ${error}`)),
    );
    const names = [...figures.nodes.keys()].filter((each) => each !== CLUSTER).sort();
    const chosen = view === "cluster" ? [CLUSTER] : names;
    for (const { measure, draw: drawPlot } of plots) {
      drawPlot(
        chosen.map((node) => ({
          name: known.get(node) ?? nodeName(node),
          points: (figures.nodes.get(node) ?? []).map(({ at, values }) => ({ at, value: values[measure.name] })),
        })),
      );
    }
  }

  async function describe() {
    try {
      const { nodes: list } = await get("nodes");
      for (const each of list) known.set(each.node, label(each));
      if (!signal.aborted) fill(nodes, nodeTable(list, figures.latest));
    } catch (error) {
      fill(nodes, trouble(error));
    }
    try {
      const health = await get("health");
      if (!signal.aborted) fill(checks, chips(health));
    } catch (error) {
      fill(checks, trouble(error));
    }
  }

  let readings = 0;
  figures.listen(() => {
    draw();
    if (readings++ % 3 === 0) describe();
  }, signal);
  const resized = new ResizeObserver(draw);
  for (const { card } of plots) resized.observe(card);
  signal.addEventListener("abort", () => resized.disconnect());

  return [
    title(
      "Overview",
      null,
      choices("What the plots show", [["cluster", "Cluster"], ["nodes", "Each node"]], view, (chosen) => {
        view = chosen;
        draw();
      }),
    ),
    failure,
    await firstMessage(signal),
    h("div.grid", {}, plots.map(({ card }) => card)),
    h("h2", {}, "Nodes"),
    nodes,
    h("h2", {}, "Health"),
    checks,
  ];
}

function label({ node, name, worker }) {
  const shown = nodeName(name || node);
  return worker ? `${shown}, worker ${worker}` : shown;
}

function nodeTable(list, latest) {
  const figures = new Map((latest?.nodes ?? []).map((each) => [each.node, each.figures]));
  const of = (name) => (row) => plain(figures.get(row.node), name);
  return table(
    "Nodes",
    [
      ["Node", (row) => [h("span", { title: `${row.node}, process ${row.pid} on ${row.host}` }, label(row)), row.self ? " " : null, row.self && h("span.tag", {}, "this one")]],
      ["Version", (row) => row.version],
      ["Started", (row) => ago(row.started_at), "keep"],
      ["Clients", (row) => number(row.connections), "n"],
      ["Streams", (row) => number(row.streams), "n"],
      ["Memory", (row) => bytes(of("mem_sys_bytes")(row)), "n"],
      ["Loop lag", (row) => duration((of("event_loop_lag_ms")(row) ?? NaN) / 1000), "n"],
    ],
    list,
    "No node has answered yet.",
  );
}

/** One click: connects, subscribes, publishes, and shows every message. Only where anybody may do so. */
async function firstMessage(signal) {
  const facts = await get("playground").catch(() => null);
  if (!facts || facts.authentication !== "none" || !facts.public_streams) return null;
  const wire = h("div.wire", { "aria-label": "Messages", tabindex: "0", role: "log", hidden: true });
  const send = h("button.primary", { id: "hello" }, "Send a message");
  let cable = null;
  signal.addEventListener("abort", () => cable?.close());
  send.addEventListener("click", async () => {
    wire.hidden = false;
    const data = JSON.stringify({ text: `Hello from the console, ${new Date().toLocaleTimeString("en-GB")}` });
    try {
      cable ??= await connected(facts, wire);
      await post("publish", {}, { stream: "hello", data });
    } catch (error) {
      cable?.close();
      cable = null;
      wire.after(trouble(error));
    }
  });
  return h(
    "section.card.stack",
    { "aria-label": "First message" },
    h(
      "div.head",
      {},
      h("div", {}, h("h2", {}, "See a message"), h("p.dim", {}, "This page becomes a client of the stream hello, and publishes to it.")),
      send,
    ),
    wire,
    h("p.dim", {}, "More in the ", h("a", { href: "#/playground?stream=hello" }, "playground"), "."),
  );
}

async function connected(facts, wire) {
  const cable = new Cable(facts, wire);
  await cable.open();
  await cable.subscribe(JSON.stringify({ channel: facts.channel, stream_name: "hello" }));
  return cable;
}
