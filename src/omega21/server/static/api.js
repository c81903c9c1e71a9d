// HTTP calls. An unreachable server, a refusal, and a required login are three different errors.

export class Lost extends Error {}
export class LoginNeeded extends Error {}
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail);
    this.code = problem.code;
  }
}

const SILENCE_MS = 60_000;

async function call(path, { method = "GET", body, signal } = {}) {
  const limit = AbortSignal.timeout(SILENCE_MS);
  let reply;
  try {
    reply = await fetch(path, {
      method,
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      headers: {
        Accept: "application/json",
        "Accept-Language": document.documentElement.lang,
        ...(body && { "Content-Type": "application/json" }),
      },
      body: body && JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Lost(String(error));
  }
  return read(reply);
}

async function read(reply) {
  const type = reply.headers.get("Content-Type") ?? "";
  let message;
  try {
    message = reply.status === 204 ? null : await reply.json();
  } catch (error) {
    // A tunnel's own page, or a truncated reply: the server itself always answers in JSON.
    throw new Lost(`${reply.status} ${type}: ${error}`);
  }
  if (reply.ok) return message;
  if (!type.startsWith("application/problem+json") || reply.status === 503) {
    throw new Lost(`HTTP ${reply.status}`);
  }
  if (reply.status === 401) throw new LoginNeeded(message.detail);
  throw new Refused(message);
}

const of = (run) => `/runs/${encodeURIComponent(run)}`;

export const session = () => call("/session");
export const login = (token) => call("/session", { method: "POST", body: { token } });
export const logout = () => call("/session", { method: "DELETE" });
export const runs = (signal) => call("/runs", { signal });
export const status = (run, signal) => call(`/status?run=${encodeURIComponent(run)}`, { signal });
export const memory = (signal) => call("/memory", { signal });
export const series = (run, query, signal) =>
  call(`${of(run)}/series?${new URLSearchParams(query)}`, { signal });
export const plan = (run, signal) => call(`${of(run)}/plan`, { signal });
export const state = (run, signal) => call(of(run), { signal });
export const evaluations = (run, after, signal) =>
  call(`${of(run)}/evaluations?after=${after}`, { signal });
export const feedback = (run, signal) => call(`${of(run)}/feedback`, { signal });
export const log = (run, after, signal) =>
  call(`${of(run)}/log?after=${after}&limit=500`, { signal });
export const events = (run, signal) =>
  call(`/events?run=${encodeURIComponent(run)}`, { signal });
