// Drives @durable-streams/client: see dialogue.mjs for what it hears and says.
//
// options: url, of the stream; headers, sent with each request.

import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"
import { obey, options, tell } from "./dialogue.mjs"

let following

// Every request that the client sends, as it is answered.
async function observed(input, init) {
  const response = await fetch(input, init)
  tell("response", {
    status: response.status,
    query: new URL(input.url ?? input).search,
    offset: response.headers.get("stream-next-offset"),
  })
  return response
}

async function begin(settings) {
  try {
    return await stream({
      url: options.url,
      headers: options.headers ?? {},
      fetch: observed,
      json: true,
      backoffOptions: { initialDelay: 50, maxDelay: 200, multiplier: 2 },
      ...settings,
    })
  } catch (error) {
    tell("failed", { status: error.status ?? 0, code: error.code ?? "" })
  }
}

obey({
  // With live, page by page to the end; without, one page.
  read: async ({ offset, live = false }) => {
    const response = await begin({ offset, live })
    if (response) tell("items", { items: await response.json(), offset: response.offset })
  },
  follow: async ({ offset, live }) => {
    following = await begin({ offset, live })
    following?.closed.catch(error => tell("failed", { status: error.status ?? 0, code: error.code ?? "" }))
    following?.subscribeJson(({ items, offset, upToDate }) => {
      tell("batch", { items, offset, upToDate })
    })
  },
  // Creates the stream, appends each of the items by itself and by a producer, and closes it.
  write: async ({ contentType, items, produced }) => {
    try {
      const handle = await DurableStream.create({
        url: options.url,
        headers: options.headers ?? {},
        fetch: observed,
        contentType,
      })
      for (const item of items) await handle.append(item)
      const producer = new IdempotentProducer(handle, "writer", { fetch: observed, autoClaim: true })
      for (const item of produced) producer.append(item)
      await producer.flush()
      await producer.close()
      tell("written", { closed: (await handle.head()).streamClosed })
    } catch (error) {
      tell("failed", { status: error.status ?? 0, code: error.code ?? "" })
    }
  },
  // Creates the stream and appends a body that is produced while it is sent, in chunks of HTTP.
  pipe: async ({ parts }) => {
    const handle = await DurableStream.create({
      url: options.url,
      headers: options.headers ?? {},
      fetch: observed,
      contentType: "text/plain",
    })
    await handle.appendStream(new ReadableStream({
      async start(controller) {
        for (const part of parts) {
          controller.enqueue(new TextEncoder().encode(part))
          await new Promise(resolve => setImmediate(resolve))
        }
        controller.close()
      },
    }))
    tell("written", { text: await (await stream({ url: options.url, offset: "-1" })).text() })
  },
  stop: () => following.cancel(),
})
