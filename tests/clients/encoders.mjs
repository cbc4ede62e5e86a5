// Encoders for @anycable/core in the place of @anycable/msgpack-encoder and @anycable/protobuf-encoder, which are
// not on npm: the same interface, encode(message) and decode(bytes), over the libraries that people use. Their import takes
// as long as the start of Node, so a client without an encoder does without.

import { readFileSync } from "node:fs"

const options = { useBigInt64: false }

async function messagePack() {
  const { decode, encode } = await import("@msgpack/msgpack")
  return {
    encode: message => encode(message, options),
    decode: data => decode(new Uint8Array(data), options),
  }
}

// schema: the path of the server's actioncable.proto.
async function protobufEncoder(schema, isExtended) {
  const { decode, encode } = await import("@msgpack/msgpack")
  const { default: protobuf } = await import("protobufjs")
  const { root } = protobuf.parse(readFileSync(schema, "utf8"), { keepCase: true })
  const Message = root.lookupType("action_cable.Message")
  const Answer = isExtended ? root.lookupType("action_cable.Reply") : Message
  const types = root.lookupEnum("action_cable.Type")
  const commands = root.lookupEnum("action_cable.ClientCommand.Command")
  return {
    encode: ({ command, data, presence, ...rest }) => {
      const message = { ...rest, command: commands.values[command] }
      if (data !== undefined) message.data = typeof data === "string" ? data : JSON.stringify(data)
      if (presence) message.presence = { id: String(presence.id), info: encode(presence.info) }
      return Message.encode(Message.fromObject(message)).finish()
    },
    decode: data => {
      const message = Answer.toObject(Answer.decode(new Uint8Array(data)), { longs: Number })
      if (message.type !== undefined) message.type = types.valuesById[message.type]
      if (message.message !== undefined) message.message = decode(message.message)
      // A false is not on the wire.
      if (message.type === "disconnect") message.reconnect ??= false
      return message
    },
  }
}

const protocols = {
  "actioncable-v1-msgpack": messagePack,
  "actioncable-v1-ext-msgpack": messagePack,
  "actioncable-v1-protobuf": schema => protobufEncoder(schema, false),
  "actioncable-v1-ext-protobuf": schema => protobufEncoder(schema, true),
}

// Resolves to the encoder of a subprotocol; to undefined where @anycable/core has its own.
export const encoderFor = (protocol, schema) => protocols[protocol]?.(schema)
