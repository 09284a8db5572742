// The authorization server: oidc-provider, OpenID certified, with a configuration of ours.
//
// It is as strict as the profiles that ask for it: a client assertion's `aud` must be the issuer and nothing else
// (rfc7523bis §4, FAPI 2.0 §5.3.3), it lives sixty seconds at most, DPoP proofs need a nonce, a client that was
// registered for DPoP or for certificate-bound tokens gets no other kind.

import * as crypto from "node:crypto";

import { errors, Provider } from "oidc-provider";

const ASSERTION_LIFETIME = 60;

// Outlives the Provider instances, of which every rotation of the nonces makes a new one.
class Store {
  static entries = new Map();

  constructor(model) {
    this.model = model;
  }

  async upsert(id, payload) {
    Store.entries.set(`${this.model}:${id}`, payload);
  }

  async find(id) {
    return Store.entries.get(`${this.model}:${id}`);
  }

  async findByUid() {}

  async findByUserCode() {}

  async consume() {}

  async destroy(id) {
    Store.entries.delete(`${this.model}:${id}`);
  }

  async revokeByGrantId() {}
}

function signingKey() {
  const { privateKey } = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), use: "sig", alg: "ES256", kid: crypto.randomUUID() };
}

function certificateOf(ctx) {
  return ctx.socket.getPeerX509Certificate?.();
}

function subjectMatches(ctx, property, expected) {
  const certificate = certificateOf(ctx);
  switch (property) {
    case "tls_client_auth_san_dns":
      return certificate.checkHost(expected, { subject: "never", wildcards: false }) === expected;
    case "tls_client_auth_subject_dn": // RFC 4514: the other way round, and with commas
      return certificate.subject.split("\n").reverse().join(",") === expected;
    default:
      return false;
  }
}

async function checkAssertion(ctx, claims) {
  if (claims.aud !== ctx.oidc.issuer) {
    throw new errors.InvalidClientAuth("aud must be the issuer identifier, as a string");
  }
  if (claims.sub !== claims.iss) {
    throw new errors.InvalidClientAuth("sub must be the client_id");
  }
  if (typeof claims.iat !== "number" || claims.exp - claims.iat > ASSERTION_LIFETIME) {
    throw new errors.InvalidClientAuth(`iat must be there, and the lifetime at most ${ASSERTION_LIFETIME} seconds`);
  }
}

export async function createAuthorizationServer({ issuer, mtlsOrigin, clients, resources }) {
  const jwks = { keys: [signingKey()] };
  const issued = new Set();
  const state = { requireNonces: true };
  let counters;

  function configuration() {
    return {
      adapter: Store,
      clients,
      clientDefaults: {
        grant_types: ["client_credentials"],
        response_types: [],
        redirect_uris: [],
        id_token_signed_response_alg: "ES256",
      },
      clientAuthMethods: [
        "client_secret_basic",
        "client_secret_post",
        "client_secret_jwt",
        "private_key_jwt",
        "tls_client_auth",
        "self_signed_tls_client_auth",
      ],
      clockTolerance: 0,
      cookies: { keys: [crypto.randomBytes(32).toString("base64url")] },
      // oidc-provider does not emit the aliases by itself, and takes any further member of the metadata.
      discovery: {
        mtls_endpoint_aliases: {
          token_endpoint: `${mtlsOrigin}/token`,
          revocation_endpoint: `${mtlsOrigin}/token/revocation`,
        },
      },
      enabledJWA: {
        clientAuthSigningAlgValues: ["HS256", "ES256", "ES384", "PS256", "EdDSA", "Ed25519"],
        dPoPSigningAlgValues: ["ES256", "ES384", "PS256", "EdDSA", "Ed25519"],
        idTokenSigningAlgValues: ["ES256"],
      },
      jwks,
      ttl: { ClientCredentials: (_ctx, token) => token.resourceServer.accessTokenTTL },
      scopes: Object.values(resources).flatMap(({ scope }) => scope.split(" ")),
      assertJwtClientAuthClaimsAndHeader: checkAssertion,
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        dPoP: {
          enabled: true,
          nonceSecret: crypto.randomBytes(32),
          requireNonce: () => state.requireNonces,
          allowReplay: false,
        },
        mTLS: {
          enabled: true,
          certificateBoundAccessTokens: true,
          selfSignedTlsClientAuth: true,
          tlsClientAuth: true,
          getCertificate: certificateOf,
          certificateAuthorized: (ctx) => ctx.socket.authorized,
          certificateSubjectMatches: subjectMatches,
        },
        resourceIndicators: {
          enabled: true,
          defaultResource: (_ctx, _client, oneOf) => oneOf ?? Object.keys(resources)[0],
          useGrantedResource: () => true,
          getResourceServerInfo: (_ctx, indicator) => {
            const resource = Object.hasOwn(resources, indicator) ? resources[indicator] : undefined;
            if (!resource) throw new errors.InvalidTarget();
            return {
              scope: resource.scope,
              audience: indicator,
              accessTokenTTL: resource.lifetime,
              accessTokenFormat: "jwt",
              jwt: { sign: { alg: "ES256" } },
            };
          },
        },
        revocation: { enabled: true },
        userinfo: { enabled: false },
        rpInitiatedLogout: { enabled: false },
      },
    };
  }

  function makeHandler() {
    const provider = new Provider(issuer, configuration());
    provider.on("client_credentials.issued", ({ jti }) => issued.add(jti));
    provider.on("grant.error", (_ctx, { error }) => {
      counters.token_errors[error] = (counters.token_errors[error] ?? 0) + 1;
    });
    provider.on("server_error", (_ctx, error) => console.error(error));
    return provider.callback();
  }

  function resetCounters() {
    counters = { token_requests: 0, token_statuses: {}, token_errors: {}, metadata_requests: 0 };
  }

  resetCounters();
  let handler = makeHandler();

  return {
    handle(request, response) {
      const { pathname } = new URL(request.url, issuer);
      if (pathname === "/token") {
        counters.token_requests += 1;
        const { end } = response;
        response.end = function count(...rest) {
          counters.token_statuses[this.statusCode] = (counters.token_statuses[this.statusCode] ?? 0) + 1;
          return end.apply(this, rest);
        };
      } else if (pathname.startsWith("/.well-known/")) {
        counters.metadata_requests += 1;
      }
      return handler(request, response);
    },
    counters: () => counters,
    issued: () => issued,
    requireNonces(required) {
      state.requireNonces = required;
    },
    rotateNonces() {
      handler = makeHandler();
    },
    reset() {
      resetCounters();
      state.requireNonces = true;
    },
  };
}
