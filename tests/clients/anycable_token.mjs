// Drives @anycable/core with tokens and signed streams: see dialogue.mjs for what it hears and says.
//
// options: token, the one to begin with; next, the one that a refresh brings; strategy, where it is.

import { createCable } from "@anycable/core"
import { ObservedWebSocket, obey, options, tell } from "./dialogue.mjs"

const cable = createCable(options.url, {
  websocketImplementation: ObservedWebSocket,
  auth: { token: options.token },
  websocketAuthStrategy: options.strategy,
  tokenRefresher: async transport => {
    tell("refresh")
    transport.setToken(options.next)
  },
})
cable.on("connect", () => tell("connected"))
cable.on("close", error => tell("closed", { reason: error?.reason }))

obey({
  subscribe: ({ name }) => {
    const channel = cable.streamFromSigned(name)
    channel.on("connect", () => tell("subscribed"))
    channel.on("message", message => tell("received", { message }))
    channel.on("close", error => tell("rejected", { error: error?.name }))
  },
  connect: () => cable.connect().catch(() => {}),
})
