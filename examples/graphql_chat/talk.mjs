// node talk.mjs NAME [TEXT]: says a text in the lobby, or shows what is said there.

import { createClient } from "graphql-ws"
import WebSocket from "ws"

const [name, text] = process.argv.slice(2)
const client = createClient({
  url: "ws://localhost:8080/graphql",
  connectionParams: { name },
  webSocketImpl: WebSocket,
})
const say = "mutation($text: String!) { say(room: \"lobby\", text: $text) }"
const listen = "subscription { messages(room: \"lobby\") { name text } }"

const query = text === undefined ? listen : say
for await (const { data, errors } of client.iterate({ query, variables: { text } })) {
  console.log(errors ?? data.messages ?? data)
}
await client.dispose()
