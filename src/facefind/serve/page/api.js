// Requests to the service: the token, waiting while it is busy, and what its errors say.

const PATIENCE = 60_000; // milliseconds for which a busy service is tried

let token = null;
let renewal = null;

/** Set by the page: gives a promise of a token; `refused` says that the last one was not taken. */
export const hooks = { needToken: async (refused) => null };

/** The answer of GET /v1/models. */
export async function listModels() {
	return (await send("v1/models", {})).json();
}

/** The line of results of a picture (see docs/guides/serve.md), with the picture's name. */
export async function detect(picture, query, options) {
	const response = await send("v1/detect", { ...options, body: picture.blob, query });
	return { ...(await response.json()).images[0], image: picture.name };
}

/** A picture that the service makes of a picture. */
export async function makePicture(path, body, query, accept = "*/*") {
	return (await send(path, { body, query, accept })).blob();
}

/**
 * The response to a request. While the service is busy it is sent again, after as many seconds as
 * the service says; `waiting` gets them. Other refusals are an Error that says why.
 */
async function send(path, { body, query = {}, accept = "*/*", signal, waiting }) {
	const url = `${path}?${new URLSearchParams(query)}`;
	const until = performance.now() + PATIENCE;
	for (;;) {
		const headers = { Accept: accept };
		if (body) headers["Content-Type"] = body.type || "application/octet-stream";
		const sent = token;
		if (sent) headers.Authorization = `Bearer ${sent}`;
		const response = await fetch(url, { method: body ? "POST" : "GET", body, headers, signal }).catch(() => {
			throw new Error("The service does not answer. Is it still running?");
		});
		const { status } = response;
		if (response.ok) return response;
		if (status === 401) {
			if (sent === token) await renewToken(sent !== null);
		} else if ((status === 429 || status === 503) && performance.now() < until) {
			const seconds = secondsOf(response.headers.get("Retry-After"));
			waiting?.(seconds);
			await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
		} else {
			const answer = await response.json().catch(() => null);
			throw new Error(answer?.error?.message ?? `The service answered with status ${status}.`);
		}
	}
}

/** Requests that are refused at the same time have one token requested. */
function renewToken(refused) {
	renewal ??= hooks.needToken(refused).then((given) => {
		token = given;
		renewal = null;
	});
	return renewal;
}

/** Seconds of a Retry-After header, a number or a date. */
function secondsOf(header) {
	const wait = Number(header ?? 1) || (Date.parse(header) - Date.now()) / 1000;
	return Math.min(60, Math.max(0.2, wait || 1));
}
