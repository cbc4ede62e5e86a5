// The figures of all nodes: read every two seconds while the page is visible, kept for five minutes.

import { get } from "./requests.js";

export const INTERVAL_MS = 2000;
const POINTS = 150;
export const CLUSTER = "";

/**
 * The plots. `of` takes the figures of now and before, and the seconds between them; null for no value. `join` makes one
 * value of those of the nodes; with `ofSums`, that of the cluster is made from the sums of their figures instead.
 */
export const MEASURES = [
  { name: "clients", title: "Clients", unit: "", join: sum, of: (now) => plain(now, "clients_num") },
  {
    name: "messages",
    title: "Messages to clients",
    unit: "/s",
    join: sum,
    of: (now, before, seconds) => rate(now, before, "server_msg_total", seconds),
  },
  {
    name: "latency_p50",
    title: "Delivery, p50",
    unit: "time",
    join: largest,
    ofSums: true,
    of: (now, before) => quantile(now, before, "delivery_seconds", 0.5),
  },
  {
    name: "latency_p99",
    title: "Delivery, p99",
    unit: "time",
    join: largest,
    ofSums: true,
    of: (now, before) => quantile(now, before, "delivery_seconds", 0.99),
  },
  {
    name: "rpc",
    title: "Calls to the application",
    unit: "/s",
    join: sum,
    of: (now, before, seconds) => rate(now, before, "rpc_call_total", seconds),
  },
  { name: "memory", title: "Memory", unit: "bytes", join: sum, of: (now) => plain(now, "mem_sys_bytes") },
  {
    name: "lag",
    title: "Event-loop lag, worst of 5 s",
    unit: "time",
    join: largest,
    of: (now) => scaled(plain(now, "event_loop_lag_ms"), 0.001),
  },
];

/** The points of each node: `{at, values: {measure: number | null}}`. */
export class Figures {
  constructor() {
    this.nodes = new Map();
    this.latest = null;
    this.error = null;
    this.listeners = new Set();
    this.before = new Map();
    this.timer = 0;
    this.asking = false;
    document.addEventListener("visibilitychange", () => this.#schedule(0));
  }

  /** Calls a function after each reading, until the signal is aborted. */
  listen(call, signal) {
    this.listeners.add(call);
    signal.addEventListener("abort", () => this.listeners.delete(call));
    if (this.latest || this.error) call();
  }

  start() {
    this.#schedule(0);
  }

  #schedule(after) {
    clearTimeout(this.timer);
    if (!document.hidden) this.timer = setTimeout(() => this.#read(), after);
  }

  async #read() {
    if (this.asking) return;
    this.asking = true;
    try {
      this.latest = await get("stats");
      this.error = null;
      this.#take(this.latest);
    } catch (error) {
      this.error = error;
    }
    this.asking = false;
    for (const each of this.listeners) each();
    this.#schedule(INTERVAL_MS);
  }

  #take(stats) {
    const at = performance.now();
    const present = new Set();
    const all = [];
    for (const { node, figures } of stats.nodes) {
      present.add(node);
      const before = this.before.get(node);
      const seconds = before ? (at - before.at) / 1000 : 0;
      const values = {};
      for (const each of MEASURES) values[each.name] = each.of(figures, before?.figures, seconds);
      this.before.set(node, { at, figures });
      this.#add(node, { at, values });
      all.push(values);
    }
    for (const node of [...this.nodes.keys()]) {
      if (node === CLUSTER || present.has(node)) continue;
      const points = this.nodes.get(node);
      if (at - points.at(-1).at > POINTS * INTERVAL_MS) this.nodes.delete(node);
      this.before.delete(node);
    }
    const values = {};
    const before = this.before.get(CLUSTER)?.figures;
    for (const { name, join, of, ofSums } of MEASURES) {
      if (ofSums) {
        values[name] = of(stats.sum, before);
        continue;
      }
      const known = all.map((each) => each[name]).filter((each) => each !== null);
      values[name] = known.length ? join(known) : null;
    }
    this.before.set(CLUSTER, { at, figures: stats.sum });
    this.#add(CLUSTER, { at, values });
  }

  #add(node, point) {
    const points = this.nodes.get(node) ?? [];
    points.push(point);
    if (points.length > POINTS) points.shift();
    this.nodes.set(node, points);
  }
}

function sum(values) {
  return values.reduce((total, each) => total + each, 0);
}

function largest(values) {
  return Math.max(...values);
}

function scaled(value, factor) {
  return value === null ? null : value * factor;
}

/** A figure; of one with labels, the sum. Names are those of /metrics: `name{label="value"}`. */
export function plain(figures, name) {
  if (!figures) return null;
  if (name in figures) return figures[name];
  const labelled = Object.keys(figures).filter((each) => each.startsWith(`${name}{`));
  return labelled.length ? sum(labelled.map((each) => figures[each])) : null;
}

/** The increase of a counter between two readings; null if it is not known. */
function growth(now, before, name) {
  const [last, first] = [plain(now, name), plain(before, name)];
  return last === null || first === null ? null : Math.max(0, last - first);
}

function rate(now, before, name, seconds) {
  const grown = growth(now, before, name);
  return grown === null || seconds <= 0 ? null : grown / seconds;
}

/**
 * The value below which a share of what a histogram has observed between two readings is, as `histogram_quantile` of
 * Prometheus estimates it: spread evenly within a bucket, at most the highest bound.
 */
function quantile(now, before, name, share) {
  const start = `${name}_bucket{le="`;
  const buckets = Object.keys(now)
    .filter((each) => each.startsWith(start))
    .map((each) => ({ bound: Number(each.slice(start.length, -2).replace("+Inf", "Infinity")), count: growth(now, before, each) ?? 0 }));
  const total = buckets.at(-1)?.count;
  if (!total) return null;
  const rank = share * total;
  let [low, below] = [0, 0];
  for (const { bound, count } of buckets) {
    if (bound === Infinity) return low;
    if (count > below && count >= rank) return low + ((bound - low) * (rank - below)) / (count - below);
    [low, below] = [bound, count];
  }
  return low;
}
