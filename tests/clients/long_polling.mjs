// Drives @anycable/core over long polling; see dialogue.mjs for the dialogue with the test.
//
// @anycable/long-polling is not needed: PollingTransport is a transport as @anycable/core expects one, which keeps the
// rules of AnyCable's docs/long_polling.md: one request at a time, commands are collected for a moment, an open poll is
// aborted to send them, a failed one closes the connection.
//
// options: url of the endpoint; webSocketUrl, if polling is only the fallback; protocol; pauseMs between two polls, which the command pause changes.

import { createCable } from "@anycable/core"
import WebSocket from "ws"
import { obey, options, tell } from "./dialogue.mjs"

class PollingTransport {
  constructor(url, pauseMs) {
    this.address = new URL(url)
    this.pauseMs = pauseMs
    this.listeners = { open: new Set(), data: new Set(), close: new Set(), error: new Set() }
    this.stop()
  }

  stop() {
    clearTimeout(this.next)
    clearTimeout(this.sending)
    clearInterval(this.pinging)
    this.request?.abort()
    this.pollId = this.next = this.sending = this.request = undefined
    this.commands = []
    this.isOpen = false
  }

  get url() {
    return this.address.href
  }

  displayName() {
    return `polling ${this.url}`
  }

  setURL(url) {
    this.address = new URL(url)
  }

  setParam(name, value) {
    this.address.searchParams.set(name, value)
  }

  setToken(value, name = "jid") {
    this.setParam(name, value)
  }

  on(event, callback) {
    this.listeners[event].add(callback)
    return () => this.listeners[event].delete(callback)
  }

  once(event, callback) {
    const forget = this.on(event, (...values) => {
      forget()
      callback(...values)
    })
    return forget
  }

  emit(event, ...values) {
    for (const each of [...this.listeners[event]]) each(...values)
  }

  async open() {
    const response = await fetch(this.url, { method: "POST" })
    tell("polled", { status: response.status })
    if (!response.ok) {
      if (response.status === 401) this.pass(await response.text())
      throw Error(`refused with ${response.status}`)
    }
    this.isOpen = true
    this.emit("open")
    this.pollId = response.headers.get("X-Anycable-Poll-ID")
    this.pass(await response.text())
    this.pinging = setInterval(() => this.emit("data", '{"type":"ping"}'), 500)
    this.pollLater()
  }

  pass(lines) {
    for (const line of lines.split("\n")) if (line) this.emit("data", line)
  }

  send(command) {
    if (!this.isOpen) throw Error("not open")
    this.commands.push(command)
    this.sending ??= setTimeout(() => {
      this.request?.abort()
      this.poll()
    }, 30)
  }

  pollLater() {
    if (this.isOpen) this.next = setTimeout(() => this.poll(), this.pauseMs)
  }

  async poll() {
    clearTimeout(this.next)
    clearTimeout(this.sending)
    this.sending = undefined
    const request = (this.request = new AbortController())
    const body = this.commands.splice(0).join("\n")
    try {
      const response = await fetch(this.url, {
        method: "POST",
        headers: { "X-Anycable-Poll-ID": this.pollId },
        body,
        signal: request.signal,
      })
      const lines = await response.text()
      tell("polled", { status: response.status })
      if (response.ok || response.status === 401) this.pass(lines)
      if (!response.ok) throw Error(`refused with ${response.status}`)
      if (this.request === request) this.pollLater()
    } catch (error) {
      if (error.name !== "AbortError") this.close(error)
    }
  }

  async close(error) {
    if (!this.isOpen) return
    this.stop()
    this.emit("close", error)
  }
}

const polling = new PollingTransport(options.url, options.pauseMs ?? 20)
const settings = {
  protocol: options.protocol,
  websocketImplementation: WebSocket,
  pingInterval: 1000,
  reconnectStrategy: () => 50,
}
const cable = options.webSocketUrl
  ? createCable(options.webSocketUrl, { ...settings, fallbacks: [polling] })
  : createCable({ ...settings, transport: polling })
cable.on("connect", ({ reconnect, restored }) => tell("connect", { reconnect, restored }))
cable.on("disconnect", ({ reason }) => tell("disconnect", { reason }))
cable.on("close", error => tell("close", { reason: error?.reason }))
// @anycable/core rejects a promise that nobody holds yet when the WebSocket fails; browsers only log that.
process.on("unhandledRejection", () => {})
const channels = new Map()

obey({
  subscribe: ({ name }) => {
    const channel = cable.streamFrom(name)
    channel.on("connect", () => tell("subscribed", { name }))
    channel.on("message", message => tell("received", { name, message }))
    channels.set(name, channel)
  },
  whisper: ({ name, payload }) => channels.get(name).whisper(payload),
  pause: ({ ms }) => {
    polling.pauseMs = ms
  },
  connect: () => cable.connect().catch(() => {}),
})
