// The same call as curl, JavaScript and Python, to copy.

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const js = JSON.stringify;
/** A Python literal: JSON's strings are Python's, but for what is not in the basic plane. */
const python = (text) => JSON.stringify(text);

/** How others publish this message. */
export function publishSnippets(facts, stream, data) {
  const scheme = location.protocol;
  const onBroadcasts = facts.broadcast_path && !facts.broadcast_needs_key;
  const url = onBroadcasts
    ? `${scheme}//${location.hostname}:${facts.broadcast_port}${facts.broadcast_path}`
    : `${scheme}//${location.hostname}:${facts.api_port}${facts.api_path}/publish`;
  const hasKey = !onBroadcasts && facts.api_needs_key;
  const body = JSON.stringify({ stream, data });
  return {
    curl: `curl ${quoted(url)} \\\n${hasKey ? '  -H "Authorization: Bearer $API_KEY" \\\n' : ""}  -d ${quoted(body)}`,
    JavaScript: [
      `await fetch(${js(url)}, {`,
      `  method: "POST",`,
      ...(hasKey ? ["  headers: { Authorization: `Bearer ${process.env.API_KEY}` },"] : []),
      `  body: JSON.stringify({`,
      `    stream: ${js(stream)},`,
      `    data: ${js(data)},`,
      `  }),`,
      `});`,
    ].join("\n"),
    Python: [
      "import json",
      ...(hasKey ? ["import os"] : []),
      "from urllib.request import Request, urlopen",
      "",
      `body = json.dumps({"stream": ${python(stream)}, "data": ${python(data)}})`,
      hasKey
        ? `headers = {"Authorization": f"Bearer {os.environ['API_KEY']}"}\nurlopen(Request(${python(url)}, body.encode(), headers))`
        : `urlopen(Request(${python(url)}, body.encode()))`,
    ].join("\n"),
  };
}

/** How others subscribe to the stream. */
export function subscribeSnippets(facts, url, identifier) {
  const params = JSON.parse(identifier);
  const command = JSON.stringify({ command: "subscribe", identifier });
  return {
    curl: facts.sse_path
      ? `curl -N -G ${quoted(`${location.protocol}//${location.hostname}:${facts.cable_port}${facts.sse_path}`)} \\\n  --data-urlencode identifier=${quoted(identifier)}`
      : "# curl reads event streams: start the server with --sse",
    JavaScript: [
      `import { createConsumer } from "@rails/actioncable";`,
      "",
      `createConsumer(${js(url)}).subscriptions.create(`,
      `  ${js(params)},`,
      `  { received: (message) => console.log(message) },`,
      `);`,
    ].join("\n"),
    Python: [
      "# pip install websockets",
      "from websockets.sync.client import connect",
      "",
      `with connect(${python(url)}, subprotocols=["actioncable-v1-json"]) as socket:`,
      `    socket.recv()  # welcome`,
      `    socket.send(${python(command)})`,
      "    for message in socket:",
      "        print(message)",
    ].join("\n"),
  };
}

/** How others send this command on the subscription: a whisper, or joining its members. */
function commandSnippets(url, identifier, what, command, call) {
  const { channel, ...params } = JSON.parse(identifier);
  const message = JSON.stringify({ command: what, identifier, ...command });
  return {
    curl: `# curl keeps no WebSocket open, which the command ${what} needs: see JavaScript and Python`,
    JavaScript: [
      `import { createCable } from "@anycable/web";`,
      "",
      `const cable = createCable(${js(url)}, { protocol: "actioncable-v1-ext-json" });`,
      `const channel = cable.subscribeTo(${js(channel)}, ${js(params)});`,
      `await channel.ensureSubscribed();`,
      `await ${call};`,
    ].join("\n"),
    Python: [
      "# pip install websockets",
      "from websockets.sync.client import connect",
      "",
      `with connect(${python(url)}, subprotocols=["actioncable-v1-ext-json"]) as socket:`,
      `    socket.recv()  # welcome`,
      `    socket.send(${python(JSON.stringify({ command: "subscribe", identifier }))})`,
      `    socket.recv()  # confirm_subscription`,
      `    socket.send(${python(message)})`,
      "    for message in socket:",
      "        print(message)",
    ].join("\n"),
  };
}

export function whisperSnippets(url, identifier, data) {
  return commandSnippets(url, identifier, "whisper", { data }, `channel.whisper(${js(data)})`);
}

export function joinSnippets(url, identifier, presence) {
  const call = `channel.presence.join(${js(presence.id)}, ${js(presence.info)})`;
  return commandSnippets(url, identifier, "join", { presence }, call);
}
