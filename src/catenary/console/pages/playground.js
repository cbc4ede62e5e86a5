// Playground: a client in this page, every message of it, and the same calls for other programs.

import { Cable } from "./cable.js";
import { choices, code, fill, h, title, trouble } from "./dom.js";
import { get, post } from "./requests.js";
import { joinSnippets, publishSnippets, subscribeSnippets, whisperSnippets } from "./snippets.js";

const WAYS = {
  none: "Connections need no authentication: the playground connects as any client does.",
  token: "The playground connects with a token (JWT) that the server signs for you; it is valid for five minutes.",
  application: "The application decides about this connection, as about every other: it sees this browser's cookies.",
  unavailable: "This server accepts only tokens that another program signs (public keys): the playground can't connect.",
};

export async function render({ query, setQuery, signal }) {
  const facts = await get("playground");
  const wire = h("div.wire", { tabindex: "0", role: "log", "aria-label": "Messages in both directions" });
  const status = h("div", { role: "status" });
  const stream = h("input", { value: query.get("stream") ?? "hello", spellcheck: "false" });
  const data = h("textarea", { rows: 3, class: "mono", spellcheck: "false" }, '{"text":"Hello"}');
  const identifiers = h("input", { class: "mono", value: '{"user":"console"}', spellcheck: "false" });
  const member = h("input", { value: "console" });
  const pings = h("input", { type: "checkbox" });
  const snippets = h("div", {});
  let cable = null;
  let shows = ["publish", "curl"];

  signal.addEventListener("abort", () => cable?.close());
  const identifier = async () => {
    const names = facts.public_streams
      ? { stream_name: stream.value }
      : { signed_stream_name: (await post("playground/sign", { stream: stream.value })).signed_stream_name };
    return JSON.stringify({ channel: facts.channel, ...names });
  };
  const presence = () => ({ id: member.value, info: { name: member.value } });
  const actions = {
    Connect: async () => {
      cable?.close();
      cable = new Cable(facts, wire);
      cable.onclose = refresh;
      const signed = facts.authentication === "token" ? await post("playground/sign", { identifiers: identifiers.value }) : {};
      await cable.open(signed.token, pings.checked);
    },
    Subscribe: async () => cable.subscribe(await identifier()),
    Unsubscribe: async () => cable.send({ command: "unsubscribe", identifier: await identifier() }),
    Publish: async () => post("publish", {}, { stream: stream.value, data: data.value }),
    Whisper: async () => cable.send({ command: "whisper", identifier: await identifier(), data: json(data.value) }),
    Join: async () => cable.send({ command: "join", identifier: await identifier(), presence: presence() }),
    Leave: async () => cable.send({ command: "leave", identifier: await identifier() }),
    Members: async () => cable.send({ command: "presence", identifier: await identifier() }),
    Close: async () => cable.close(),
  };
  const buttons = Object.entries(actions).map(([name, act]) =>
    h(
      "button",
      {
        class: name === "Connect" || name === "Publish" ? "primary" : null,
        onclick: async () => {
          try {
            await act();
            fill(status);
          } catch (error) {
            fill(status, trouble(error));
          }
          refresh();
        },
      },
      name,
    ),
  );
  function refresh() {
    for (const button of buttons) {
      const name = button.textContent;
      const needsCable = name !== "Connect" && name !== "Publish";
      button.disabled = (needsCable && !cable?.isOpen) || (name === "Connect" && facts.authentication === "unavailable");
    }
  }
  async function drawSnippets() {
    setQuery({ stream: stream.value });
    const [call, language] = shows;
    const url = new Cable(facts, wire).url();
    const name = facts.public_streams ? { stream_name: stream.value } : { signed_stream_name: "…" };
    const shown = JSON.stringify({ channel: facts.channel, ...name });
    const made = {
      publish: () => publishSnippets(facts, stream.value, data.value),
      subscribe: () => subscribeSnippets(facts, url, shown),
      whisper: () => whisperSnippets(url, shown, json(data.value)),
      join: () => joinSnippets(url, shown, presence()),
    }[call]();
    fill(snippets, code(made[language], `${language} code`));
  }
  for (const input of [stream, data, member]) input.addEventListener("input", drawSnippets);
  const choose = (place) => (value) => {
    shows[place] = value;
    drawSnippets();
  };
  refresh();
  drawSnippets();
  return [
    title("Playground", WAYS[facts.authentication]),
    facts.public_streams || facts.signs_streams
      ? null
      : h("p.error", {}, "Streams are neither public nor signed (public_streams, streams_secret): the application decides about subscriptions."),
    h(
      "div.two",
      {},
      h(
        "section.card.stack",
        { "aria-label": "Commands" },
        facts.authentication === "token" && h("label", {}, "Identifiers in the token", identifiers),
        h("label", {}, "Stream", stream),
        h("label", {}, "Message", data),
        h("label", {}, "Member, for Join", member),
        h("label.check", {}, pings, "Show pings (from the next connection on)"),
        h("div.row", {}, buttons),
        status,
      ),
      h(
        "section.stack",
        { "aria-label": "Wire" },
        h("div.head", {}, h("h2", {}, "Messages"), h("button", { onclick: () => fill(wire) }, "Clear")),
        wire,
      ),
    ),
    h(
      "section.card.stack",
      { "aria-label": "The same call from other programs" },
      h(
        "div.head",
        {},
        h("h2", {}, "The same call from other programs"),
        h(
          "div.row",
          {},
          choices("Call", [["publish", "Publish"], ["subscribe", "Subscribe"], ["whisper", "Whisper"], ["join", "Join"]], shows[0], choose(0)),
          choices("Language", [["curl", "curl"], ["JavaScript", "JavaScript"], ["Python", "Python"]], shows[1], choose(1)),
        ),
      ),
      snippets,
    ),
  ];
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
