// Requests to the service: the token, waiting while it is busy, and what its errors say.

const PATIENCE = 60_000; // milliseconds for which a busy service is tried

let token = null;
let renewal = null;

/** Set by the page: gives a promise of a token; `refused` says that the last one was not taken. */
export const hooks = { needToken: async (refused) => null };

/**
 * The response to a request. While the service is busy it is sent again, after as many seconds as
 * the service says; `waiting` gets them. Other refusals are an Error that says why.
 */
export async function send(path, { body, query = {}, accept = "*/*", signal, waiting } = {}) {
	const url = `${path}?${new URLSearchParams(query)}`;
	const until = performance.now() + PATIENCE;
	for (;;) {
		const headers = { Accept: accept };
		if (body) headers["Content-Type"] = body.type || "application/octet-stream";
		const sent = token;
		if (sent) headers.Authorization = `Bearer ${sent}`;
		const response = await fetch(url, { method: body ? "POST" : "GET", body, headers, signal }).catch(async () => {
			await body?.arrayBuffer(); // an Error where it is the file that cannot be read
			throw new Error("The service does not answer. Is it still running?");
		});
		const { status } = response;
		if (response.ok) return response;
		if (status === 401) {
			if (sent === token) await renewToken(sent !== null);
		} else if ((status === 429 || status === 503) && performance.now() < until) {
			const seconds = Number(response.headers.get("Retry-After")) || 1;
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
