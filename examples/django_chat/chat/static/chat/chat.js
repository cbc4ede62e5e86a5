// turbo.js of @hotwired/turbo-rails: Turbo, <turbo-cable-stream-source>, and a client of Action Cable
import { cable } from "../turbo.js"

// <room-presence room="1">: the names of the members of a room
customElements.define("room-presence", class extends HTMLElement {
  async connectedCallback() {
    const element = this
    const here = new Map()
    this.subscription = await cable.subscribeTo({ channel: "RoomChannel", id: Number(this.getAttribute("room")) }, {
      connected() {
        this.consumer.send({ command: "presence", identifier: this.identifier })
      },

      received({ type, id, info, records }) {
        if (type === "info") {
          here.clear()
          for (const each of records ?? []) here.set(each.id, each.info.name)
        }
        if (type === "join") here.set(id, info.name)
        if (type === "leave") here.delete(id)
        element.textContent = [...here.values()].sort().join(", ")
      },
    })
    if (!this.isConnected) this.subscription.unsubscribe()
  }

  disconnectedCallback() {
    this.subscription?.unsubscribe()
  }
})

addEventListener("turbo:submit-end", ({ target, detail }) => {
  if (detail.success) target.reset()
})
