// A worker as the old Crew's JavaScript SDK made them, written from its wire alone:
// POST /execute/<worker> is a call; GET /, /healthcheck and /readycheck tell that it is there.
// A worker's result goes out as it is. What a worker throws goes out with status 200 as
// {"error": message}, and with its `pauseWorkgroupSeconds` as `workgroupDelayInSeconds`.
"use strict";

const fs = require("node:fs");
const express = require("express");

const token = process.env.CREW_WORKER_AUTH_TOKEN;
const log = process.env.CREW_WORKER_LOG;

const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** Waits as long as the demo does, or as long as the input says. */
const pretend = (payload, seconds) => sleep(payload.input?.seconds ?? seconds);

let refusals = 1;

const workers = {
  "worker-a": async (payload) => {
    await pretend(payload, 10);
    return { output: { message: "Worker A did it!", parents: payload.parents } };
  },

  "worker-b": async (payload) => {
    await pretend(payload, 2);
    return { output: { message: "Worker B did it!", parents: payload.parents } };
  },

  // Two children of one key: the second gets the output of the first, and no call.
  "worker-c": async (payload) => {
    await pretend(payload, 2);
    const input = { seconds: payload.input?.seconds };
    return {
      output: { message: "Worker C did it!" },
      children: [
        { name: "Child A", worker: "worker-a", key: "same_key", input },
        { name: "Child B", worker: "worker-a", key: "same_key", input },
      ],
      childrenDelayInSeconds: payload.input?.childrenDelay ?? 60,
    };
  },

  // Beside the SDK's demo: a worker that throws, and one that is rate limited at first.
  thrower: async (payload) => {
    throw new Error(payload.input?.message ?? "thrown");
  },

  limited: async (payload) => {
    if (refusals-- > 0) {
      throw Object.assign(new Error("slow down"), {
        pauseWorkgroupSeconds: payload.input.pause,
      });
    }
    return { output: "let through" };
  },
};

function authorize(request, response, next) {
  const given =
    request.query.accessToken ??
    request.body?.accessToken ??
    request.get("Authorization")?.replace("Bearer ", "");
  if (token && given !== token) {
    response.status(401).json({ error: "Access token is invalid!" });
    return;
  }
  next();
}

async function execute(id, payload) {
  try {
    const result = await workers[id](payload);
    return result;
  } catch (error) {
    const answer = { error: error.message };
    if (error.pauseWorkgroupSeconds > 0) {
      answer.workgroupDelayInSeconds = error.pauseWorkgroupSeconds;
    }
    return answer;
  }
}

const app = express();
app.use(express.json()); // bodies above 100 kB get a 413
app.get("/", (request, response) => response.json(Object.keys(workers)));
app.get(["/healthcheck", "/readycheck"], (request, response) => response.send("OK"));
for (const id of Object.keys(workers)) {
  app.post(`/execute/${id}`, authorize, async (request, response) => {
    const { input, parents, taskId } = request.body;
    if (log) {
      fs.appendFileSync(log, JSON.stringify({ worker: id, taskId }) + "\n");
    }
    response.json(await execute(id, { input, parents, taskId }));
  });
}

const port = Number(process.env.CREW_WORKER_PORT ?? 3002);
const server = app.listen(port, "127.0.0.1", (error) => {
  if (error) {
    throw error;
  }
  console.log(`listening on http://127.0.0.1:${server.address().port}/`);
});
