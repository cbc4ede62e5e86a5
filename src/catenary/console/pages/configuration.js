// Configuration: each option, its value, and where the value comes from.

import { choices, fill, h, table, title } from "./dom.js";
import { get } from "./requests.js";

export async function render({ query, setQuery }) {
  const { groups } = await get("config");
  const search = h("input", { type: "search", placeholder: "Name, variable, meaning", value: query.get("q") ?? "" });
  const list = h("div.stack", {});
  let which = query.get("show") ?? "set";

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    setQuery({ q: wanted, show: which });
    const found = groups
      .map(({ title: name, options }) => ({ name, options: options.filter((each) => matches(each, wanted) && (which === "all" || each.source !== "default")) }))
      .filter(({ options }) => options.length);
    fill(
      list,
      found.length
        ? found.map(({ name, options }) => [h("h2", {}, name), optionTable(name, options)])
        : h("div.card.empty", {}, which === "set" ? "Everything is at its default." : "No option matches."),
    );
  }
  search.addEventListener("input", draw);
  draw();
  return [
    title(
      "Configuration",
      "Of the node that serves this page. Secrets are never shown.",
      choices("Options", [["set", "Changed"], ["all", "All"]], which, (chosen) => {
        which = chosen;
        draw();
      }),
    ),
    h("div.card", {}, h("label", {}, "Search", search)),
    list,
  ];
}

function matches({ name, toml, variables, help }, wanted) {
  return [name, toml, ...variables, help].some((each) => each.toLowerCase().includes(wanted));
}

function optionTable(name, options) {
  return table(
    name,
    [
      ["Option", (row) => [h("code", {}, row.name), h("div.dim", {}, row.help)]],
      ["Value", (row) => h("code", {}, row.value === "" ? "(empty)" : row.value)],
      ["From", (row) => h("span", { class: row.source === "default" ? "tag" : "tag set" }, row.source), "keep"],
      ["Default", (row) => h("code.dim", {}, row.default === "" ? "(empty)" : row.default)],
    ],
    options,
    "",
    "even",
  );
}
