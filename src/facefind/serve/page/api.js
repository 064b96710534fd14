// Requests to the service: the token, waiting while it is busy, and what its errors say.

const MOST_TRIES = 12;
const BUSY = new Set([429, 503]);

let token = null;
let pending = null;

/** What a request ends with when it has no answer: a text to show, and the HTTP status (0: none). */
export class RequestError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Set by the page: gives a promise of a token; `refused` says that the last one was not taken. */
export const hooks = { needToken: async (refused) => "" };

/** The models of the service, and the name of its default. */
export async function listModels() {
  return (await send("v1/models", {})).json();
}

/**
 * The faces of a picture: {line, ms}. `line` is what `facefind detect --out` writes of it, with its
 * name; `ms` is the service's own time where it says one, else the time of the whole request.
 */
export async function detect(blob, name, query, options = {}) {
  const started = performance.now();
  const response = await send("v1/detect", { ...options, body: blob, query });
  const answer = await response.json();
  const own = /dur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "");
  const line = { ...answer.images[0], image: name };
  if (line.error) throw new RequestError(line.error, response.status);
  return { line, ms: own ? Number(own[1]) : performance.now() - started };
}

/** A picture that the service makes: as drawn or redacted by it. */
export async function makePicture(path, blob, query, options = {}) {
  return (await send(path, { ...options, body: blob, query })).blob();
}

async function send(path, { body, query = {}, accept, signal, waiting = () => {} }) {
  const url = `${path}?${new URLSearchParams(query)}`.replace(/\?$/, "");
  for (let tries = 1; ; tries++) {
    const headers = {};
    if (accept) headers.Accept = accept;
    if (body) headers["Content-Type"] = body.type || "application/octet-stream";
    const sent = token;
    if (sent) headers.Authorization = `Bearer ${sent}`;
    let response;
    try {
      response = await fetch(url, { method: body ? "POST" : "GET", body, headers, signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new RequestError("The service does not answer. Is it still running?");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      if (sent === token) await renewToken(sent !== null);
    } else if (BUSY.has(response.status) && tries < MOST_TRIES) {
      const seconds = secondsOf(response.headers.get("Retry-After"));
      waiting(seconds);
      await pause(seconds, signal);
    } else {
      throw new RequestError(await textOf(response), response.status);
    }
  }
}

/** Requests that are refused at the same time share one question for a token. */
function renewToken(refused) {
  pending ??= hooks.needToken(refused).then((given) => {
    token = given;
    pending = null;
  });
  return pending;
}

/** Seconds of a Retry-After header, which is a number or a date. */
function secondsOf(header) {
  const seconds = Number(header ?? 1);
  const wait = Number.isNaN(seconds) ? (Date.parse(header) - Date.now()) / 1000 : seconds;
  return Math.min(60, Math.max(0.2, wait || 1));
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

async function textOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The service answered ${response.status} ${response.statusText}`.trim() + ".";
  }
}
