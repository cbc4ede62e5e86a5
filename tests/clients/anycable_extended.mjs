// Drives @anycable/core with the extended protocol: see dialogue.mjs for what it hears and says.
//
// options: recovers, false for a client that subscribes again instead of resuming its session; protocol, another
// subprotocol than actioncable-v1-ext-json, whose encoding may need the schema of the server.

import { createCable } from "@anycable/core"
import { encoderFor } from "./encoders.mjs"
import { ObservedWebSocket, obey, options, tell } from "./dialogue.mjs"

const protocol = options.protocol ?? "actioncable-v1-ext-json"
const encoder = await encoderFor(protocol, options.schema)
if (encoder) ObservedWebSocket.decode = encoder.decode

const cable = createCable(options.url, {
  protocol,
  encoder,
  protocolOptions: { pongs: true, disableSessionRecovery: !options.recovers },
  websocketImplementation: ObservedWebSocket,
  // Its default waits for seconds.
  reconnectStrategy: () => 20,
})
const channels = new Map()

obey({
  subscribe: ({ name }) => {
    const channel = cable.streamFrom(name)
    channel.on("connect", () => tell("subscribed", { name }))
    channel.on("message", (message, meta) => tell("received", { name, message, meta }))
    channel.on("info", ({ type }) => tell("info", { name, type }))
    channel.on("presence", ({ type, id }) => tell("presence", { name, type, id }))
    channels.set(name, channel)
  },
  join: ({ name, id, info }) => channels.get(name).presence.join(id, info),
  whisper: ({ name, payload }) => channels.get(name).whisper(payload),
  leave: ({ name }) => channels.get(name).presence.leave(),
  who: ({ name }) => channels.get(name).presence.info().then(
    who => tell("here", { name, ids: Object.keys(who) }),
  ),
})
