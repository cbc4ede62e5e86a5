// The frame of the console: which page is shown, the theme, the keyboard.

import { fill, h, trouble } from "./dom.js";
import { Figures, INTERVAL_MS } from "./figures.js";
import { get } from "./requests.js";

const PAGES = [
  { key: "o", path: "", title: "Overview", load: () => import("./overview.js") },
  { key: "c", path: "clients", title: "Clients", load: () => import("./clients.js") },
  { key: "s", path: "streams", title: "Streams", load: () => import("./streams.js") },
  { key: "p", path: "playground", title: "Playground", load: () => import("./playground.js") },
  { key: "h", path: "health", title: "Health", load: () => import("./health.js") },
  { key: "f", path: "configuration", title: "Configuration", load: () => import("./configuration.js") },
];
/** Pages of one thing, below a page of many. */
const DETAILS = { clients: () => import("./client.js"), streams: () => import("./stream.js") };

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const pulse = document.getElementById("pulse");
const figures = new Figures();
let shown = new AbortController();
let number = 0;

/** The page of the address: `#/clients/SID?q=…` */
async function show() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const page = PAGES.find((each) => each.path === name) ?? PAGES[0];
  shown.abort();
  shown = new AbortController();
  const mine = ++number;
  for (const link of nav.children) {
    if (link.dataset.path === page.path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${page.title} · Catenary`;
  try {
    const id = decodeURIComponent(rest.join("/"));
    const context = { signal: shown.signal, figures, id, query: new URLSearchParams(query), setQuery };
    const { render } = await (id && DETAILS[page.path] ? DETAILS[page.path]() : page.load());
    const content = await render(context);
    if (mine === number) fill(main, content);
  } catch (error) {
    if (mine === number) fill(main, trouble(error));
  }
  if (mine === number) main.dataset.shown = page.path || "overview";
}

/** Puts the choices of a page into its address without showing it again. */
function setQuery(values) {
  const [path] = location.hash.split("?");
  const search = new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();
  history.replaceState(null, "", `${path || "#/"}${search && `?${search}`}`);
}

fill(
  nav,
  PAGES.map(({ path, title, key }) =>
    h("a", { href: `#/${path}`, "data-path": path, "aria-keyshortcuts": `g ${key}` }, title),
  ),
);

// The indicator that metrics arrive
figures.listen(() => {
  pulse.className = figures.error ? "pulse off" : "pulse on";
  const text = figures.error ? "no answer" : "live";
  if (pulse.textContent !== text) pulse.textContent = text;
  pulse.title = figures.error?.message ?? `Figures every ${INTERVAL_MS / 1000} s`;
}, new AbortController().signal);

// The theme: the system's, light, dark
const THEMES = { "": ["◐", "the system's"], light: ["☀", "light"], dark: ["☾", "dark"] };
const theme = document.getElementById("theme");
function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  const [sign, words] = THEMES[name];
  theme.textContent = sign;
  theme.setAttribute("aria-label", `Theme: ${words}`);
  theme.title = `Theme: ${words}`;
  try {
    localStorage.setItem("catenary.theme", name);
  } catch { /* storage is blocked: the choice lasts as long as the page */ }
}
function nextTheme() {
  const names = Object.keys(THEMES);
  const present = document.documentElement.dataset.theme ?? "";
  setTheme(names[(names.indexOf(present) + 1) % names.length]);
}
function rememberedTheme() {
  try {
    return localStorage.getItem("catenary.theme");
  } catch {
    return "";
  }
}
const remembered = rememberedTheme() ?? "";
setTheme(remembered in THEMES ? remembered : "");
theme.addEventListener("click", nextTheme);

// The keyboard
const shortcuts = document.getElementById("shortcuts");
fill(
  shortcuts,
  h("h2", { id: "shortcuts-title" }, "Keyboard"),
  h(
    "dl.facts",
    {},
    PAGES.map(({ key, title }) => [h("dt", {}, h("kbd", {}, "g"), " ", h("kbd", {}, key)), h("dd", {}, title)]),
    h("dt", {}, h("kbd", {}, "/")),
    h("dd", {}, "Search on this page"),
    h("dt", {}, h("kbd", {}, "t")),
    h("dd", {}, "Light, dark, the system's theme"),
    h("dt", {}, h("kbd", {}, "?")),
    h("dd", {}, "This list"),
  ),
  h("button", { onclick: () => shortcuts.close() }, "Close"),
);
document.getElementById("keys").addEventListener("click", () => shortcuts.showModal());
let going = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || shortcuts.open) return;
  if (event.target.closest("input, textarea, select")) return;
  const page = Date.now() - going < 1500 && PAGES.find((each) => each.key === event.key);
  going = 0;
  if (page) location.hash = `#/${page.path}`;
  else if (event.key === "g") going = Date.now();
  else if (event.key === "t") nextTheme();
  else if (event.key === "?") shortcuts.showModal();
  else if (event.key === "/") {
    const search = main.querySelector("input[type=search]");
    if (!search) return;
    event.preventDefault();
    search.focus();
  }
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
  main.scrollIntoView();
});

// Logging out, where one can log in
const logout = document.getElementById("logout");
logout.addEventListener("click", async () => {
  await fetch("logout", { method: "POST", headers: { "X-Catenary-Console": "1" } });
  location.replace("login");
});
get("playground").then((facts) => (logout.hidden = !facts.has_login), () => {});

window.addEventListener("hashchange", () => {
  show();
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
});
figures.start();
show();
