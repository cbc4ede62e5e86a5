// Runs npm @durable-streams/server-conformance-tests against DS_URL; vitest reports each test as JSON.

import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({ baseUrl: process.env.DS_URL, longPollTimeoutMs: 2_000 })
