// One process with both ends in it: oidc-provider (provider.mjs) and the API that trusts it (api.mjs).
//
// The first line of stdin is the configuration as JSON, made by the Python fixture at run time: client registrations,
// the servers' certificate, the CA of the clients' certificates. One line of JSON on stdout says that all are ready and
// where. The process ends on SIGTERM and when stdin closes, so that it never outlives the tests.

import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import readline from "node:readline";

import { createApi } from "./api.mjs";
import { createAuthorizationServer } from "./provider.mjs";

// stdout belongs to the ready line; what libraries have to say goes to stderr.
console.log = console.info = console.warn = console.error;

const HOST = "127.0.0.1";

async function listen(server) {
  server.listen(0, HOST);
  await once(server, "listening");
  return server.address().port;
}

async function readJson(request) {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text ? JSON.parse(text) : {};
}

function createControl(authorizationServer, api) {
  const actions = {
    counters: () => ({ ...authorizationServer.counters(), ...api.counters() }),
    reset: () => {
      authorizationServer.reset();
      api.reset();
    },
    "rotate-nonces": ({ grace = false }) => {
      if (!grace) authorizationServer.rotateNonces();
      api.rotateNonces(grace);
    },
    "require-nonces": ({ authorization_server: atServer, api: atApi }) => {
      if (atServer !== undefined) authorizationServer.requireNonces(atServer);
      if (atApi !== undefined) api.requireNonces(atApi);
    },
    "revoke-all": () => ({ revoked: api.revoke(authorizationServer.issued()) }),
  };
  return http.createServer(async (request, response) => {
    const action = actions[request.url.slice(1)];
    const answer = request.method === "POST" && action ? action(await readJson(request)) : undefined;
    response.statusCode = action ? 200 : 404;
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answer ?? {}));
  });
}

const lines = readline.createInterface({ input: process.stdin });
const [line] = await once(lines, "line");
lines.on("close", () => process.exit(0));
process.on("SIGTERM", () => process.exit(0));

const config = JSON.parse(line);

// Certificates are asked for and not required, and any is let in: whether it may be used is decided per request, as
// self-signed ones are registered one by one.
const tls = {
  key: config.tls.key,
  cert: config.tls.certificate,
  ca: config.tls.client_ca,
  requestCert: true,
  rejectUnauthorized: false,
};
const handlers = {};
const servers = {
  issuer: http.createServer((request, response) => handlers.authorizationServer(request, response)),
  issuerTls: https.createServer(tls, (request, response) => handlers.authorizationServer(request, response)),
  api: http.createServer((request, response) => handlers.api(request, response)),
  apiTls: https.createServer(tls, (request, response) => handlers.api(request, response)),
};
const ports = {};
for (const [name, server] of Object.entries(servers)) ports[name] = await listen(server);

const issuer = `http://${HOST}:${ports.issuer}`;
const authorizationServer = await createAuthorizationServer({
  issuer,
  mtlsOrigin: `https://${HOST}:${ports.issuerTls}`,
  clients: config.clients,
  resources: config.resources,
});
const api = createApi({ issuer, resources: config.resources });
handlers.authorizationServer = authorizationServer.handle;
handlers.api = api.handle;

const control = await listen(createControl(authorizationServer, api));

process.stdout.write(
  `${JSON.stringify({
    issuer,
    mtls_issuer: `https://${HOST}:${ports.issuerTls}`,
    api: `http://${HOST}:${ports.api}`,
    api_mtls: `https://${HOST}:${ports.apiTls}`,
    control: `http://${HOST}:${control}`,
  })}\n`,
);
