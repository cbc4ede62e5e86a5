// Drives laravel-echo over pusher-js, with npm's pusher as the application's server that signs: see dialogue.mjs for what it
// hears and says.
//
// options: port, key, and secret of an app.

import Echo from "laravel-echo"
import Server from "pusher"
import Pusher from "pusher-js"
import { obey, options, tell } from "./dialogue.mjs"

const server = new Server({ appId: "unused", key: options.key, secret: options.secret, host: "127.0.0.1" })
let echo
let member

function connect() {
  const client = new Pusher(options.key, {
    cluster: "",
    wsHost: "127.0.0.1",
    wsPort: options.port,
    forceTLS: false,
    enabledTransports: ["ws"],
    channelAuthorization: {
      customHandler: ({ socketId, channelName }, callback) =>
        callback(null, server.authorizeChannel(socketId, channelName, member)),
    },
  })
  echo = new Echo({ broadcaster: "pusher", client })
  client.connection.bind("connected", () => tell("connected", { socket: echo.socketId() }))
}

obey({
  connect,
  channel: ({ name, event }) => {
    const channel = echo.channel(name)
    channel.subscribed(() => tell("subscribed", { name }))
    channel.listen(event, data => tell("received", { name, data }))
  },
  private: ({ name, event }) => {
    const channel = echo.private(name)
    channel.subscribed(() => tell("subscribed", { name }))
    channel.listen(event, data => tell("received", { name, data }))
    channel.listenForWhisper("typing", data => tell("whispered", { name, data }))
  },
  join: ({ name, as }) => {
    member = as
    echo
      .join(name)
      .here(users => tell("here", { users }))
      .joining(user => tell("joining", { user }))
      .leaving(user => tell("leaving", { user }))
  },
  whisper: ({ name, data }) => echo.private(name).whisper("typing", data),
  leave: ({ name }) => echo.leave(name),
})
