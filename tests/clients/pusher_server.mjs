// Drives npm's pusher, the library of servers that publish to Pusher apps: see dialogue.mjs for what it hears and says.
//
// Each call has an id, with which its result is told. A webhook is verified as an application does it.

import Pusher from "pusher"
import { obey, options, tell } from "./dialogue.mjs"

const apps = Object.fromEntries(Object.entries(options.apps).map(([name, app]) => {
  return [name, new Pusher({ host: "127.0.0.1", useTLS: false, ...app })]
}))
const present = Date.now

async function call({ id, app, method, args }) {
  try {
    const response = await apps[app][method](...args)
    const text = await response.text()
    tell("answer", { id, status: response.status, body: text ? JSON.parse(text) : null })
  } catch (error) {
    tell("answer", { id, status: error.status ?? 0, body: error.body ?? String(error) })
  }
}

obey({
  call,
  // Calls are signed with a clock that is so many seconds ahead.
  clock: ({ seconds }) => { Date.now = () => present() + seconds * 1000 },
  webhook: ({ id, app, headers, body }) => {
    const webhook = apps[app].webhook({ headers, rawBody: body })
    const valid = webhook.isValid()
    tell("webhook", { id, valid, time: webhook.getTime().getTime(), events: webhook.getEvents() })
  },
})
