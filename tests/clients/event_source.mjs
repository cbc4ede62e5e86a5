// Drives EventSource (npm eventsource): see dialogue.mjs for what it hears and says.
//
// options: url, of the event stream, with its query.

import { EventSource } from "eventsource"
import { obey, options, tell } from "./dialogue.mjs"

let source

obey({
  connect: ({ url }) => {
    source = new EventSource(url ?? options.url, {
      fetch: (input, init) =>
        fetch(input, init).then(response => {
          tell("status", { code: response.status, last: init.headers["Last-Event-ID"] ?? "" })
          return response
        }),
    })
    source.onopen = () => tell("open")
    source.onmessage = ({ data, lastEventId }) => tell("received", { data, id: lastEventId })
    source.onerror = () => tell("error", { closed: source.readyState === EventSource.CLOSED })
    for (const type of ["welcome", "confirm_subscription", "disconnect", "reject_history"]) {
      source.addEventListener(type, ({ data }) => tell(type, { message: JSON.parse(data) }))
    }
  },
  disconnect: () => source.close(),
})
