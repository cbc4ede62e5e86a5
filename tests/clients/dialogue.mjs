// The dialogue between a driver and its test, one JSON object a line: commands on stdin, events on stdout.
//
// ObservedWebSocket is what both clients get as their WebSocket (Node 20 has none of its own):
// it reports what travels on the wire, so that a test sees more than the client cares to tell.

import { createInterface } from "node:readline"
import WebSocket from "ws"

export const options = JSON.parse(process.argv[2])

export function tell(event, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`)
}

export class ObservedWebSocket extends WebSocket {
  static decode = JSON.parse

  constructor(url, protocols, settings) {
    super(url, protocols, settings)
    this.on("open", () => tell("open", { protocol: this.protocol }))
    this.on("message", frame => tell("frame", { message: ObservedWebSocket.decode(frame) }))
    this.on("close", (code, reason) => tell("close", { code, reason: reason.toString() }))
    // The "close" that follows says enough; an unheard "error" would end the process.
    this.on("error", () => {})
  }
}

// Calls commands[line.do](line) for every line, until stdin ends: then the test is over.
export function obey(commands) {
  const lines = createInterface({ input: process.stdin })
  lines.on("line", text => {
    const line = JSON.parse(text)
    commands[line.do](line)
  })
  lines.on("close", () => process.exit(0))
}
