// Drives the client of npm graphql-ws: see dialogue.mjs for what it hears and says.
//
// options: url; params, the connection params; retries and keepAlive (ms), where a test needs them.

import { createClient } from "graphql-ws"
import { obey, ObservedWebSocket, options, tell } from "./dialogue.mjs"

const stops = {}
const client = createClient({
  url: options.url,
  connectionParams: options.params,
  webSocketImpl: ObservedWebSocket,
  retryAttempts: options.retries ?? 0,
  retryWait: async () => new Promise(done => setTimeout(done, 50)),
  keepAlive: options.keepAlive ?? 0,
})

obey({
  start: ({ name, query, variables }) => {
    stops[name] = client.subscribe({ query, variables }, {
      next: result => tell("next", { name, result }),
      error: error => tell("error", { name, error: told(error) }),
      complete: () => tell("complete", { name }),
    })
  },
  stop: ({ name }) => stops[name](),
})

// The errors of an operation, or the close event of a connection that is given up.
function told(error) {
  return Array.isArray(error) ? error : { code: error.code, reason: error.reason }
}
