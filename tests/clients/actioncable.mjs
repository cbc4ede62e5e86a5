// Drives @rails/actioncable: see dialogue.mjs for what it hears and says.

import ActionCable from "@rails/actioncable"
import { ObservedWebSocket, obey, options, tell } from "./dialogue.mjs"

// The client asks its page for these two.
globalThis.addEventListener = () => {}
globalThis.removeEventListener = () => {}

ActionCable.adapters.WebSocket = ObservedWebSocket
// stdout belongs to the dialogue.
ActionCable.adapters.logger = { log: (...words) => console.error(...words) }
ActionCable.logger.enabled = true
// "Missed two pings", as the client's own default says for pings every 3 s.
ActionCable.ConnectionMonitor.staleThreshold = 2 * options.pingIntervalS

const consumer = ActionCable.createConsumer(options.url)
const subscriptions = new Map()

obey({
  connect: () => consumer.connect(),
  disconnect: () => consumer.disconnect(),
  subscribe: ({ name, channel, params }) => {
    const tellOf = (event, fields) => tell(event, { name, ...fields })
    const subscription = consumer.subscriptions.create({ channel, ...params }, {
      connected: ({ reconnected }) => tellOf("subscribed", { again: reconnected }),
      rejected: () => tellOf("rejected"),
      received: message => tellOf("received", { message }),
      disconnected: ({ willAttemptReconnect }) => tellOf("lost", { returns: willAttemptReconnect }),
    })
    subscriptions.set(name, subscription)
  },
  perform: ({ name, action, payload }) => subscriptions.get(name).perform(action, payload),
  unsubscribe: ({ name }) => subscriptions.get(name).unsubscribe(),
})
