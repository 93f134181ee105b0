// Reads [{url, key, call, file, options}, ...] from its argument, and prints what the client was given: a line of JSON
// for each.
import { createReadStream } from "node:fs";
import OpenAI from "openai";
import { Webhook } from "standardwebhooks";

async function told({ url, key, call, file, options }) {
  const client = new OpenAI({ apiKey: key, baseURL: `${url}/v1`, maxRetries: 0 });
  if (call === "verify") return new Webhook(key).verify(options.body, options.headers);
  if (call === "models") {
    const found = [];
    for await (const model of client.models.list()) found.push(model.id);
    return found;
  }
  const answer = await client.audio[call].create({ file: createReadStream(file), ...options });
  if (!options.stream) return answer;
  const events = [];
  for await (const event of answer) events.push(event);
  return events;
}

for (const asked of JSON.parse(process.argv[2])) {
  try {
    console.log(JSON.stringify({ answer: await told(asked) }));
  } catch (error) {
    console.log(JSON.stringify({ status: error.status, message: error.message, param: error.param, code: error.code }));
  }
}
