// Elements from values. Text is always text: nothing a client sends is ever parsed as HTML.

/** An element: properties, attributes and listeners (onclick), then children: elements, text, lists, null for nothing. */
export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  assign(element, properties);
  element.append(...flat(children));
  return element;
}

/** The same for drawings. */
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...flat(children));
  return element;
}

/** Replaces all children. */
export function fill(element, ...children) {
  element.replaceChildren(...flat(children));
}

function assign(element, properties) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.includes("-") && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
}

function flat(children) {
  return children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);
}

/** A table; columns are [title, cell of a row, "n" for numbers or "keep" for what must not wrap]. On phones its rows are cards. */
export function table(label, columns, rows, empty, className = "") {
  if (!rows.length) return h("div.card.empty", {}, empty);
  return h(
    `div.card.table.fold${className && `.${className}`}`,
    { tabindex: "0", role: "region", "aria-label": label },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, columns.map(([title, , kind]) => h("th", { scope: "col", class: kind }, title)))),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h("tr", {}, columns.map(([title, cell, kind]) => h("td", { class: kind, "data-label": title }, h("div", {}, cell(row))))),
        ),
      ),
    ),
  );
}

/** Buttons of which one is chosen; calls back with its value. */
export function choices(label, options, chosen, choose) {
  const buttons = options.map(([value, title]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => pick(value) }, title),
  );
  function pick(value) {
    options.forEach(([each], index) => buttons[index].setAttribute("aria-pressed", String(each === value)));
    choose(value);
  }
  return h("div.choices", { role: "group", "aria-label": label }, buttons);
}

/** An error in place of a page that could not be shown. */
export function trouble(error) {
  return h("p.error", { role: "alert" }, error.message ?? error);
}

export function title(text, lead, ...tools) {
  return h("div.title", {}, h("div", {}, h("h1", {}, text), lead && h("p.lead", {}, lead)), tools.length > 0 && h("div.row", {}, tools));
}

/** Names and values. */
export function facts(pairs) {
  return h("dl.facts", {}, pairs.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** Code with a button that copies it. */
export function code(text, label) {
  const copy = h("button", { type: "button", "aria-label": `Copy ${label}` }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(text);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  return h("div.code", {}, h("pre", { tabindex: "0", role: "region", "aria-label": label }, h("code", {}, text)), copy);
}
