// Drives the client of npm subscriptions-transport-ws: see dialogue.mjs for what it hears and says.
//
// options: url; params, the connection params; reconnect.

import { SubscriptionClient } from "subscriptions-transport-ws"
import { obey, ObservedWebSocket, options, tell } from "./dialogue.mjs"

const subscriptions = {}
const client = new SubscriptionClient(
  options.url,
  {
    connectionParams: options.params,
    reconnect: options.reconnect ?? false,
    minTimeout: 20_000,
    connectionCallback: error => tell(error ? "refused" : "admitted", { error }),
  },
  ObservedWebSocket,
)

obey({
  start: ({ name, query, variables }) => {
    subscriptions[name] = client.request({ query, variables }).subscribe({
      next: result => tell("next", { name, result }),
      error: error => tell("error", { name, error: [{ message: error.message }] }),
      complete: () => tell("complete", { name }),
    })
  },
  stop: ({ name }) => subscriptions[name].unsubscribe(),
  close: () => client.close(),
})
