// Requests to the server.  A failure is an Error with the message of the server.

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Error("the server cannot be reached");
  }
  const body = await response.json().catch(() => ({ message: `the server answered ${response.status}` }));
  if (response.ok) return body;
  if (response.status === 401 && body.code === "no_session") location.reload();
  throw new Error(body.message);
}

const ask = (path, options) => request(`api/${path}`, options);

const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return new URLSearchParams(given).toString();
};

const NO_COOKIE =
  "The token is right, but this browser did not send the session cookie back: it refuses cookies, or a proxy changes" +
  ` their path. The cookie belongs to ${new URL(".", location.href).pathname}.`;

export async function enter(token) {
  const headers = { "Content-Type": "application/json" };
  await request("session", { method: "POST", body: JSON.stringify({ token }), headers });
  const isInside = (await fetch("api/start", { method: "HEAD", cache: "no-store" })).status !== 401;
  if (!isInside) throw new Error(NO_COOKIE);
}
export const leave = () => request("session", { method: "DELETE" });
export const start = () => ask("start");
export const newer = (cursors, wanted) => ask(`newer?${query({ ...cursors, ...wanted })}`);
export const older = (cursors, wanted) => ask(`older?${query({ ...cursors, ...wanted })}`);
export const find = (id) => ask(`find?${query({ id })}`);
export const charts = (seconds) => ask(`charts?${query({ seconds })}`);
export const names = (text) => ask(`names?${query({ text })}`);
export const retry = (seq, destination) => ask(`retry/messages/${seq}?${query({ destination })}`, { method: "POST" });
export const detail = (part, seq) => ask(`detail/${part}/${seq}`);
export const repair = (part, seq) => ask(`repair/${part}/${seq}`, { method: "POST" });
