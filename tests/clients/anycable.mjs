// Drives @anycable/core: see dialogue.mjs for what it hears and says.
//
// options: protocol, another subprotocol than actioncable-v1-json, whose encoding may need the schema of the server.

import { createCable } from "@anycable/core"
import { encoderFor } from "./encoders.mjs"
import { ObservedWebSocket, obey, options, tell } from "./dialogue.mjs"

const protocol = options.protocol ?? "actioncable-v1-json"
const encoder = await encoderFor(protocol, options.schema)
if (encoder) ObservedWebSocket.decode = encoder.decode

const cable = createCable(options.url, {
  protocol,
  encoder,
  websocketImplementation: ObservedWebSocket,
  pingInterval: 1000 * options.pingIntervalS,
  // Its default waits longer with each attempt, up to minutes.
  reconnectStrategy: () => 250,
})
const channels = new Map()

obey({
  connect: () => cable.connect().catch(() => {}),
  disconnect: () => cable.disconnect(),
  subscribe: ({ name, channel, params }) => {
    const tellOf = (event, fields) => tell(event, { name, ...fields })
    const subscription = cable.subscribeTo(channel, params)
    subscription.on("connect", ({ reconnect }) => tellOf("subscribed", { again: reconnect }))
    subscription.on("message", message => tellOf("received", { message }))
    subscription.on("disconnect", () => tellOf("lost", { returns: cable.state !== "closed" }))
    subscription.on("close", error => {
      if (error?.name === "SubscriptionRejectedError") tellOf("rejected")
    })
    channels.set(name, subscription)
  },
  perform: ({ name, action, payload }) => channels.get(name).perform(action, payload),
  unsubscribe: ({ name }) => channels.get(name).disconnect(),
})
