// The protected API. What it lets in is decided by oauth4webapi's validateJwtAccessToken: signature, issuer, audience,
// lifetime and type of the token, and of the DPoP proof htm, htu, ath, iat, signature and the key that the token is
// bound to. That library refuses certificate-bound tokens (cnf has x5t#S256), so these are verified with jose, and the
// thumbprint is compared here with the certificate of the connection. Nonces, replays, scopes and revocation are ours.

import * as crypto from "node:crypto";

import { createRemoteJWKSet, decodeJwt, jwtVerify } from "jose";
import * as oauth from "oauth4webapi";

const BASE = "/api/v1/integration/";
const ALGORITHMS = "ES256 ES384 PS256 EdDSA Ed25519";

class Refusal extends Error {
  constructor(status, scheme, error, description) {
    super(description);
    Object.assign(this, { status, scheme, error });
  }
}

function requestOf(request) {
  const origin = `${request.socket.encrypted ? "https" : "http"}://${request.headers.host}`;
  const headers = new Headers();
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    // Appended, not set: a header that was sent twice must not pass for one.
    if (/^(authorization|dpop)$/i.test(request.rawHeaders[i])) {
      headers.append(request.rawHeaders[i], request.rawHeaders[i + 1]);
    }
  }
  return new Request(`${origin}${request.url}`, { method: request.method, headers });
}

export function createApi({ issuer, resources }) {
  const metadata = { issuer, jwks_uri: `${issuer}/jwks` };
  const jwks = createRemoteJWKSet(new URL(metadata.jwks_uri));
  const seenProofs = new Set();
  const revoked = new Set();
  const state = { requireNonces: true, nonce: newNonce(), previousNonce: undefined };
  let counters;

  function newNonce() {
    return crypto.randomBytes(18).toString("base64url");
  }

  function resetCounters() {
    counters = { api_requests: 0, api_statuses: {}, api_errors: {} };
  }

  resetCounters();

  async function verifyCertificateBound(request, token, audience) {
    const { payload } = await jwtVerify(token, jwks, {
      issuer,
      audience,
      typ: "at+jwt",
      requiredClaims: ["exp", "sub", "iat", "jti", "client_id"],
    }).catch((error) => {
      throw new Refusal(401, "Bearer", "invalid_token", error.message);
    });
    const certificate = request.socket.getPeerX509Certificate?.();
    const thumbprint = certificate && crypto.createHash("sha256").update(certificate.raw).digest("base64url");
    if (Object.keys(payload.cnf).length !== 1 || payload.cnf["x5t#S256"] !== thumbprint) {
      throw new Refusal(401, "Bearer", "invalid_token", "the token is bound to another certificate");
    }
    return payload;
  }

  function checkProof(proof) {
    const { nonce, jti } = decodeJwt(proof);
    if (state.requireNonces && (nonce === undefined || ![state.nonce, state.previousNonce].includes(nonce))) {
      throw new Refusal(401, "DPoP", "use_dpop_nonce", "a nonce of this API is required in the DPoP proof");
    }
    if (seenProofs.has(jti)) {
      throw new Refusal(401, "DPoP", "invalid_dpop_proof", "the DPoP proof was used before");
    }
    seenProofs.add(jti);
    return nonce;
  }

  async function authorize(request, response, audience, scope) {
    if (request.headers.authorization === undefined) throw new Refusal(401, undefined, "no_token", "a token is needed");
    const [scheme, token] = request.headers.authorization.split(" ");
    const dpop = /^dpop$/i.test(scheme) || request.headers.dpop !== undefined;
    let bound = false;
    try {
      bound = "x5t#S256" in (decodeJwt(token).cnf ?? {});
    } catch {
      // Not a JWT: refused below.
    }
    let claims;
    if (bound && /^bearer$/i.test(scheme) && !dpop) {
      claims = await verifyCertificateBound(request, token, audience);
    } else {
      claims = await oauth
        .validateJwtAccessToken(metadata, requestOf(request), audience, {
          [oauth.allowInsecureRequests]: true, // the JWKS of this very process, over loopback
          [oauth.clockTolerance]: 0,
        })
        .catch((error) => {
          const about = error.cause?.claims;
          const proof = /^DPoP Proof/.test(error.message) || (about && "htm" in about);
          throw new Refusal(401, dpop ? "DPoP" : "Bearer", proof ? "invalid_dpop_proof" : "invalid_token", error.message);
        });
    }
    if (claims.cnf?.jkt !== undefined) {
      const nonce = checkProof(request.headers.dpop);
      if (state.requireNonces && nonce !== state.nonce) response.setHeader("DPoP-Nonce", state.nonce);
    }
    if (revoked.has(claims.jti)) {
      throw new Refusal(401, dpop ? "DPoP" : "Bearer", "invalid_token", "the token was revoked");
    }
    if (!(claims.scope ?? "").split(" ").includes(scope)) {
      throw new Refusal(403, dpop ? "DPoP" : "Bearer", "insufficient_scope", `this needs ${scope}`);
    }
    return claims;
  }

  function refuse(response, refusal) {
    const said = refusal.message.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, "?");
    const challenge = (scheme, parameters) =>
      `${scheme} ${Object.entries(parameters).map(([name, value]) => `${name}="${value}"`).join(", ")}`;
    const why = { error: refusal.error, error_description: said };
    // Both schemes are offered, in two header fields, as RFC 9449 §7.2 has it; the error stands at the one that was used.
    response.setHeader("WWW-Authenticate", [
      challenge("Bearer", { realm: "records", ...(refusal.scheme === "Bearer" ? why : {}) }),
      challenge("DPoP", { ...(refusal.scheme === "DPoP" ? why : {}), algs: ALGORITHMS }),
    ]);
    if (refusal.error === "use_dpop_nonce") response.setHeader("DPoP-Nonce", state.nonce);
    counters.api_errors[refusal.error] = (counters.api_errors[refusal.error] ?? 0) + 1;
    return [refusal.status, { error: refusal.error, error_description: said }];
  }

  async function answer(request, response) {
    let received = 0;
    for await (const chunk of request) received += chunk.length;

    const { pathname } = new URL(request.url, issuer);
    const entry = Object.entries(resources).find(
      ([, { path }]) => pathname === BASE + path || pathname.startsWith(`${BASE}${path}/`),
    );
    if (!entry) return [404, { error: "not_found" }];
    const [audience, { read, moved }] = entry;
    const claims = await authorize(request, response, audience, read);
    if (pathname === `${BASE}${entry[1].path}/${moved}`) {
      response.setHeader("Location", BASE + entry[1].path);
      return [307, {}];
    }
    return [200, { records: ["a", "b"], target: request.url, received, token: claims }];
  }

  return {
    async handle(request, response) {
      counters.api_requests += 1;
      let result;
      try {
        result = await answer(request, response);
      } catch (error) {
        if (!(error instanceof Refusal)) console.error(error);
        result = error instanceof Refusal ? refuse(response, error) : [500, { error: "server_error" }];
      }
      const [status, body] = result;
      counters.api_statuses[status] = (counters.api_statuses[status] ?? 0) + 1;
      response.statusCode = status;
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(body));
    },
    counters: () => counters,
    requireNonces(required) {
      state.requireNonces = required;
    },
    rotateNonces(grace) {
      state.previousNonce = grace ? state.nonce : undefined;
      state.nonce = newNonce();
    },
    revoke(jtis) {
      for (const jti of jtis) revoked.add(jti);
      return revoked.size;
    },
    reset() {
      resetCounters();
      state.requireNonces = true;
    },
  };
}
