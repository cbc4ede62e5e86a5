// A list in pages: the server finds and cuts, so that any number of rows costs a browser and a server the same.

import { fill, h, trouble } from "./dom.js";

/** `read(after)` returns `{rows, next}`; `show(rows)` draws them. */
export function pager(read, show) {
  const list = h("div", {});
  const status = h("span.dim", { role: "status" });
  const back = h("button", { onclick: () => go(before.pop() ?? "", true), disabled: true }, "Previous");
  const on = h("button", { onclick: () => go(next), disabled: true }, "Next");
  const controls = h("div.pages", {}, back, on, status);
  let before = [];
  let here = "";
  let next = null;
  let asked = 0;

  async function go(after, isBack = false) {
    const mine = ++asked;
    try {
      const page = await read(after);
      if (mine !== asked) return;
      if (!isBack && after !== here) before.push(here);
      [here, next] = [after, page.next];
      fill(list, show(page.rows), page.errors?.length ? page.errors.map((each) => trouble(`${each.node}: ${each.error}`)) : null);
      status.textContent = page.status ?? "";
    } catch (error) {
      if (mine === asked) fill(list, trouble(error));
    }
    back.disabled = here === "";
    on.disabled = !next;
    controls.hidden = back.disabled && on.disabled && !status.textContent;
  }

  /** The first page, or the present one again. */
  return {
    list,
    controls,
    first: () => {
      before = [];
      here = "";
      return go("");
    },
    again: () => go(here, true),
  };
}

/** Calls a function when typing has paused. */
export function afterTyping(call) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, 250);
  };
}
