// A plot of one measure over the last minutes, for the cluster or for each node.

import { fill, h, svg } from "./dom.js";
import { bytes, clock, duration, number } from "./format.js";

const WIDTH = 320;
const HEIGHT = 104;
const TOP = 8;
const BOTTOM = 18;
/** The time that is shown: what is known, within these. */
const SHORTEST_MS = 60_000;
const LONGEST_MS = 300_000;
const COLOURS = 6;

const FORMATS = { bytes, time: duration, "/s": number, "": number };

/** A card with the present value and its past; `draw` takes series: `[{name, points: [{at, value}]}]`, the first is the main one. */
export function plot(measure) {
  const show = FORMATS[measure.unit] ?? number;
  const unit = measure.unit === "/s" ? " /s" : "";
  const value = h("span.value", {}, "–");
  const drawing = svg("svg", { role: "img", preserveAspectRatio: "none", viewBox: `0 0 ${WIDTH} ${HEIGHT}` });
  const legend = h("ul.legend", {});
  const card = h(
    "section.card.plot",
    { "aria-label": measure.title, "data-measure": measure.name },
    h("div.head", {}, h("h2", {}, measure.title), value),
    drawing,
    legend,
  );
  let series = [];
  let pointed = null;

  function draw(given) {
    series = given;
    const now = performance.now();
    const width = drawing.clientWidth || WIDTH;
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const known = series.flatMap((each) => each.points).filter((each) => each.value !== null);
    const first = Math.min(now, ...series.map((each) => each.points[0]?.at ?? now));
    const shown = Math.min(Math.max(now - first, SHORTEST_MS), LONGEST_MS);
    const top = ceiling(Math.max(0, ...known.map((each) => each.value)), measure.unit);
    const x = (at) => width - ((now - at) / shown) * width;
    const y = (amount) => TOP + (1 - amount / top) * (HEIGHT - TOP - BOTTOM);
    const cursor = pointed === null ? null : nearest(series[0]?.points ?? [], now - (1 - pointed / width) * shown);
    const at = cursor?.at ?? null;
    fill(
      drawing,
      svg("line", { class: "rule", x1: 0, x2: width, y1: y(0), y2: y(0) }),
      svg("line", { class: "rule", x1: 0, x2: width, y1: y(top), y2: y(top), "stroke-dasharray": "2 4" }),
      svg("text", { x: 0, y: y(top) + 12 }, show(top) + unit),
      svg("text", { x: 0, y: HEIGHT - 4 }, `${duration(Math.round(shown / 1000))} ago`),
      svg("text", { x: width, y: HEIGHT - 4, "text-anchor": "end" }, at === null ? "now" : clock(Date.now() - now + at)),
      series.map(({ points }, index) => curves(points, x, y, index, series.length === 1)),
      at === null ? null : svg("line", { class: "cursor", x1: x(at), x2: x(at), y1: TOP, y2: y(0) }),
    );
    const amounts = series.map(({ points }) => (at === null ? points.at(-1) : nearest(points, at))?.value ?? null);
    const present = amounts.filter((each) => each !== null);
    const main = present.length ? measure.join(present) : null;
    fill(value, show(main), h("small", {}, main === null ? "" : unit));
    drawing.setAttribute("aria-label", `${measure.title}: ${main === null ? "no value yet" : show(main) + unit}`);
    fill(
      legend,
      series.length === 1
        ? null
        : series.map(({ name }, index) =>
            h("li", {}, h(`span.swatch.f${colour(index)}`), `${name} ${show(amounts[index])}${unit}`),
          ),
    );
  }

  drawing.addEventListener("pointermove", (event) => {
    pointed = event.clientX - drawing.getBoundingClientRect().left;
    draw(series);
  });
  drawing.addEventListener("pointerleave", () => {
    pointed = null;
    draw(series);
  });
  return { card, draw };
}

function colour(index) {
  return (index % COLOURS) + 1;
}

/** The lines of one series; a reading without a value is a gap. */
function curves(points, x, y, index, washed) {
  const runs = [];
  let run = [];
  for (const { at, value } of [...points, { value: null }]) {
    if (value === null) {
      if (run.length) runs.push(run);
      run = [];
    } else run.push([x(at), y(value)]);
  }
  return runs.map((each) => {
    const path = each.map(([left, top], place) => `${place ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`).join("");
    const line = each.length === 1 ? `${path}h1` : path;
    const area = `${line}L${each.at(-1)[0].toFixed(1)} ${y(0)}L${each[0][0].toFixed(1)} ${y(0)}Z`;
    return [
      washed ? svg("path", { class: `wash f${colour(index)}`, d: area }) : [],
      svg("path", { class: `curve s${colour(index)}`, d: line }),
    ];
  });
}

function nearest(points, at) {
  return points.reduce((best, each) => (Math.abs(each.at - at) < Math.abs((best?.at ?? -1e12) - at) ? each : best), null);
}

/** The next round number. */
function ceiling(value, unit) {
  const least = { bytes: 1e6, time: 0.001, "/s": 1, "": 1 }[unit] ?? 1;
  const wanted = Math.max(value, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 1.5, 2, 3, 4, 5, 7.5, 10].map((each) => each * power).find((each) => each >= wanted * 0.999);
}
