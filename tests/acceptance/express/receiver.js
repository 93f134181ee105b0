// A receiver as most callers write theirs. Prints its port once it listens.
const express = require("express");

const app = express();
app.use(express.json());
app.post("/callback", (request, response) => response.sendStatus(204));

const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
