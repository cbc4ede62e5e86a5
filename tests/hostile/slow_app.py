"""An application over HTTP that takes its time: ``python -m tests.hostile.slow_app PORT``.

Lets everybody in, confirms every subscription, and sends back what an action is given.
"""

import asyncio
import json
import sys
from typing import Any

ANSWER_S = 0.02


def answer(procedure: str, asked: dict[str, Any]) -> dict[str, Any]:
    if procedure == "connect":
        return {"status": 1, "identifiers": "x", "transmissions": ['{"type":"welcome"}']}
    if asked.get("command") == "subscribe":
        said = json.dumps({"type": "confirm_subscription", "identifier": asked["identifier"]})
        return {"status": 1, "transmissions": [said]}
    return {"status": 1, "transmissions": [asked["data"]] if "data" in asked else []}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            asked = json.loads(await reader.readexactly(size))
            await asyncio.sleep(ANSWER_S)
            procedure = head.split()[1].rpartition(b"/")[2].decode()
            body = json.dumps(answer(procedure, asked)).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1000)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
