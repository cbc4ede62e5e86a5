// Drives pusher-js, with npm's pusher as the application's server that signs: see dialogue.mjs for what it hears and says.
//
// options: port, key, and secret of an app; wrong: sign with another secret; activityTimeout, pongTimeout: in milliseconds.

import Server from "pusher"
import Pusher from "pusher-js"
import { obey, options, tell } from "./dialogue.mjs"

const server = new Server({
  appId: "unused",
  key: options.key,
  secret: options.wrong ? "another secret" : options.secret,
  host: "127.0.0.1",
  // 32 bytes in base64
  encryptionMasterKeyBase64: "a2V5IG9mIDMyIGJ5dGVzIGZvciB0aGUgdGVzdHMgLi4=",
})
const members = {}
let pusher

function connect({ key, port, user, query }) {
  pusher = new Pusher(key ?? options.key, {
    cluster: "",
    wsHost: "127.0.0.1",
    wsPort: port ?? options.port,
    forceTLS: false,
    enabledTransports: ["ws"],
    disableStats: true,
    activityTimeout: options.activityTimeout,
    pongTimeout: options.pongTimeout,
    channelAuthorization: {
      customHandler: ({ socketId, channelName }, callback) =>
        callback(null, server.authorizeChannel(socketId, channelName, members[channelName])),
    },
    userAuthentication: {
      customHandler: ({ socketId }, callback) =>
        callback(null, server.authenticateUser(socketId, user)),
    },
  })
  pusher.connection.bind("state_change", ({ current }) =>
    tell("state", { state: current, socket: pusher.connection.socket_id }),
  )
  pusher.connection.bind("message", message => tell("frame", { message }))
  pusher.connection.bind("error", error => tell("error", { error: error.error ?? error }))
}

function subscribe({ channel: name, member }) {
  members[name] = member
  const channel = pusher.subscribe(name)
  // Only a listener for one event learns who sent it.
  channel.bind("client-hello", (data, metadata) => tell("sender", { user: metadata?.user_id ?? null }))
  channel.bind_global((event, data) => {
    if (event === "pusher:subscription_succeeded" && channel.members) {
      data = { count: channel.members.count, ids: Object.keys(channel.members.members), me: channel.members.me }
    }
    tell("event", { channel: name, name: event, data })
  })
}

obey({
  connect,
  subscribe,
  unsubscribe: ({ channel }) => pusher.unsubscribe(channel),
  trigger: ({ channel, name, data }) =>
    tell("triggered", { sent: pusher.channel(channel).trigger(name, data) }),
  send: ({ name, data, channel }) => pusher.send_event(name, data, channel),
  signin: () => {
    pusher.user.bind_global((name, data) => tell("user", { name, data }))
    pusher.signin()
    pusher.user.signinDonePromise.then(() => tell("signed_in", { id: pusher.user.user_data?.id ?? null }))
  },
  // Encrypts as the application's server does, and publishes by a broadcast.
  encrypted: ({ port, channel, name, data }) => {
    server.post = ({ body }) => {
      const message = JSON.stringify({ event: body.name, data: body.data })
      return fetch(`http://127.0.0.1:${port}/_broadcast`, {
        method: "POST",
        body: JSON.stringify({ stream: channel, data: message }),
      })
    }
    server.trigger(channel, name, data)
  },
  members: ({ channel }) => {
    const found = pusher.channel(channel).members
    tell("members", { count: found.count, ids: Object.keys(found.members).sort() })
  },
  disconnect: () => pusher.disconnect(),
})
