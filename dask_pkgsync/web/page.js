"use strict";
// Shows pkgsync/status.json, which it asks for once a second while the page is visible. Every text of the cluster becomes
// a text node, so that none can bring markup into the page.

const GOOD = ["matches", "synced", "left alone"];
const BAD = ["failed", "changed", "differs"];
const PLAIN = ["base", "stock", "worker", "presented"];
const view = { page: 1, state: "", find: "" };
const open = new Set();
let shown = {};
let clock = 0; // the scheduler's time minus this browser's, in seconds
let asking = false;

const byId = (id) => document.getElementById(id);

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") made.className = value;
    else if (value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [size, unit, smaller, sub] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / smaller);
      return `${Math.floor(whole / size)} ${unit}` + (rest ? ` ${rest} ${sub}` : "");
    }
  }
  return `${whole} s`;
}

const age = (since) => (since ? duration(Date.now() / 1000 + clock - since) : "");
const when = (at) => new Date(at * 1000).toLocaleString();
const counted = (count, noun, several = noun + "s") => `${count} ${count === 1 ? noun : several}`;

function bytes(count) {
  let size = count;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000 || unit === "GB") return `${size.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
    size /= 1000;
  }
}

function badge(state) {
  const kind = GOOD.includes(state) ? " good" : BAD.includes(state) ? " bad" : PLAIN.includes(state) ? "" : " busy";
  return element("span", { class: "state" + kind }, state);
}

const timer = (since) => element("span", { "data-since": String(since) }, age(since));

function cell(label, content, kind = "td") {
  const properties = { "data-label": label, ...(kind === "th" ? { scope: "row" } : {}) };
  return element(kind, properties, content === "" ? undefined : content);
}

// A disclosure that stays open when its row is drawn again.
function disclosure(key, title, ...content) {
  const made = element("details", {}, element("summary", {}, title), ...content);
  made.open = open.has(key);
  made.dataset.key = key;
  made.addEventListener("toggle", () => (made.open ? open.add(key) : open.delete(key)));
  return made;
}

// Draw a part only if its data have changed, so that focus, selection and screen readers are left in peace.
function draw(name, data, render) {
  const text = JSON.stringify(data);
  if (shown[name] === text) return;
  shown[name] = text;
  const key = document.activeElement.closest("details")?.dataset.key;
  render(data);
  if (key === undefined || document.activeElement.closest("details")) return;
  const again = [...document.querySelectorAll("details")].find((made) => made.dataset.key === key);
  if (again) again.firstElementChild.focus({ preventScroll: true });
}

function list(id, pairs) {
  byId(id).replaceChildren(
    ...pairs.filter(([, value]) => value !== "" && value !== undefined).flatMap(([name, value]) => [
      element("dt", {}, name),
      element("dd", {}, value),
    ]),
  );
}

function drawTarget(target) {
  if (!target) {
    byId("target").replaceChildren(element("dd", { class: "quiet" }, "Nobody has synced this cluster: every node has its own packages."));
    return;
  }
  const policy = [
    target.strict ? "strict" : "",
    target.only ? `only ${target.only.join(", ")}` : "",
    target.ignore.length ? `ignore ${target.ignore.join(", ")}` : "",
    target.extra.length ? `extra ${target.extra.join(", ")}` : "",
    ...Object.entries(target.levels).map(([name, level]) => `${name} ${level}`),
  ];
  list("target", [
    ["Set by", target.enforced ? "the operator (mode enforce)" : target["set-by"]],
    ["Why", target.enforced ? "the operator's configuration" : target.claims.length ? `connected: ${target.claims.join(", ")}` : "a sync"],
    ["When", target.since ? element("span", {}, `${when(target.since)} (`, timer(target.since), " ago)") : ""],
    ["Python", `${target.python} on ${target.platform}`],
    ["Packages", counted(target.packages, "package") + (target["conda-packages"] ? `, ${counted(target["conda-packages"], "conda package")}` : "")],
    ["Policy", policy.filter(Boolean).join("; ")],
    ["Kept", target.kept ? "also without a client" : ""],
    ["Fingerprint", element("span", { class: "mono" }, target.fingerprint.slice(0, 16))],
  ]);
}

function words(node) {
  const parts = [node["last-words"] ? element("pre", {}, node["last-words"]) : null];
  if (node.advice) parts.push(element("p", {}, node.advice));
  if (node.lines.length) parts.push(element("ul", {}, ...node.lines.map((line) => element("li", {}, line))));
  const more = parts.filter(Boolean);
  const title = node.detail.split("\n")[0] || (node.lines.length ? counted(node.lines.length, "note") : "");
  return more.length ? disclosure(node.address, title || "details", ...more) : title;
}

function drawNodes(nodes) {
  byId("node-rows").replaceChildren(
    ...nodes.rows.map((node) =>
      element(
        "tr",
        {},
        cell("Node", node.worker && node.worker !== node.address ? element("span", {}, node.address, element("br"), element("span", { class: "quiet" }, `worker ${node.worker}`)) : node.address, "th"),
        cell("Role", node.role),
        cell("Host", node.host),
        cell("State", badge(node.state)),
        cell("For", node.since ? timer(node.since) : ""),
        cell("Layer", node.layer ? element("span", { class: "mono" }, node.layer.slice(0, 8) + (node.built ? ` (${bytes(node.built)})` : "")) : ""),
        cell("Last words", words(node)),
      ),
    ),
  );
  byId("nodes-caption").textContent = `${counted(nodes.found, "node")} of ${nodes.total}`;
  byId("page").textContent = `Page ${nodes.page} of ${nodes.pages}`;
  byId("previous").disabled = nodes.page <= 1;
  byId("next").disabled = nodes.page >= nodes.pages;
  view.page = nodes.page;
}

function drawStates(states) {
  byId("states").replaceChildren(
    ...Object.entries(states).map(([state, count]) => element("span", {}, badge(state), ` ${count}`)),
  );
}

function drawStateNames(names) {
  byId("state").replaceChildren(
    element("option", { value: "" }, "all"),
    ...names.map((name) => element("option", { value: name }, name)),
  );
  byId("state").value = view.state;
}

function drawMatrix(matrix) {
  const box = byId("matrix");
  box.hidden = !matrix.rows.length;
  const alike = matrix.alike ? `${counted(matrix.alike, "host")} ${matrix.alike === 1 ? "has" : "have"} everything as it was asked for.` : "";
  byId("matrix-text").textContent = matrix.rows.length
    ? `${counted(matrix.rows.length, "package")} that hosts have otherwise. Hosts that are alike are one column. ${alike}`
    : alike || "No host has reported a difference.";
  if (!matrix.rows.length) return;
  const head = element("tr", {}, element("th", { scope: "col" }, "Package"));
  for (const column of matrix.columns) {
    const names = column.names.join(", ") + (column.hosts > column.names.length ? " …" : "");
    head.append(element("th", { scope: "col" }, column.hosts === 1 ? names : `${column.hosts} hosts: ${names}`));
  }
  const rows = matrix.rows.map((row) =>
    element("tr", {}, element("th", { scope: "row" }, row.package), ...row.cells.map((text) => element("td", {}, text || "as asked"))),
  );
  box.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

function drawPackages(packages) {
  byId("packages").hidden = !packages.rows.length;
  byId("packages-text").textContent = packages.rows.length
    ? packages.more ? `The first ${packages.rows.length}; ${packages.more} more.` : ""
    : "The nodes have nothing from a sync.";
  byId("package-rows").replaceChildren(
    ...packages.rows.map((row) =>
      element(
        "tr",
        {},
        cell("Package", row.package, "th"),
        cell("Asked", row.asked),
        cell("Got", element("div", {}, ...row.got.map((got) => element("div", {}, `${got.version}${got.why ? ` (${got.why})` : ""}, ${counted(got.nodes, "node")}`)))),
        cell("Level", row.level),
      ),
    ),
  );
}

function drawClients(clients) {
  byId("clients").hidden = !clients.length;
  byId("clients-text").textContent = clients.length ? "" : "No client is connected.";
  byId("client-rows").replaceChildren(
    ...clients.map((client) =>
      element(
        "tr",
        {},
        cell("Client", client.name, "th"),
        cell("Person", client.person),
        cell("State", badge(client.state)),
        cell("For", client.since ? timer(client.since) : ""),
        cell("Detail", client.detail),
      ),
    ),
  );
}

function drawRefusals(refusals) {
  byId("refusals-text").textContent = refusals.length ? "" : "Nobody was refused.";
  byId("refusals").replaceChildren(
    ...refusals.map((one) =>
      disclosure(`refusal ${one.at} ${one.name}`, `${when(one.at)}: ${one.who} ${one.person || one.name}`, element("pre", {}, one.reason)),
    ),
  );
}

function drawHappenings(happenings) {
  byId("happenings").replaceChildren(
    ...(happenings.length
      ? happenings.map((one) => element("li", {}, `${when(one.at)}: ${one.action}${one.text ? ` (${one.text})` : ""}`))
      : [element("li", { class: "quiet" }, "Nothing yet.")]),
  );
}

function drawCaches(caches) {
  const source = { client: "uploaded by clients", scheduler: "served to hosts", built: "built as layers" };
  list("caches", [
    ["Wheels of clients", `${caches.blobs} (${bytes(caches["blob-bytes"])})`],
    ...Object.entries(caches.bytes).map(([name, count]) => [`Bytes ${source[name] || name}`, bytes(count)]),
    ...Object.entries(caches.layers).map(([name, count]) => [`Layers ${name}`, String(count)]),
  ]);
}

function drawRollout(rollout, nodes) {
  byId("rollout").hidden = !rollout.running;
  if (!rollout.running) return;
  byId("progress").max = Math.max(1, nodes.total);
  byId("progress").value = nodes.settled;
  byId("progress-text").replaceChildren(`${nodes.settled} of ${counted(nodes.total, "node")} done, since `, timer(rollout.since));
}

function summary(data) {
  const mode = data.mode ? ` Mode ${data.mode}.` : "";
  const note = data.note ? ` ${data.note[0].toUpperCase()}${data.note.slice(1)}.` : "";
  const { total, states } = data.nodes;
  if (data.rollout.running) return `A rollout is running.${mode}${note}`;
  if (!data.target) return `No environment is in force; ${counted(total, "node")}.${mode}${note}`;
  const matching = (states.matches || 0) + (states["left alone"] || 0);
  return `${matching} of ${counted(total, "node")} ${matching === 1 ? "matches" : "match"} the target.${mode}${note}`;
}

function render(data) {
  clock = data.now - Date.now() / 1000;
  draw("summary", summary(data), (text) => (byId("summary").textContent = text));
  draw("release", data.release, (text) => (byId("release").textContent = `dask-pkgsync ${text} at ${data.scheduler}`));
  draw("rollout", [data.rollout, data.nodes.settled, data.nodes.total], () => drawRollout(data.rollout, data.nodes));
  draw("target", data.target, drawTarget);
  draw("states", data.nodes.states, drawStates);
  draw("names", [...new Set([...Object.keys(data.nodes.states), ...(view.state ? [view.state] : [])])], drawStateNames);
  draw("nodes", data.nodes, drawNodes);
  draw("matrix", data.matrix, drawMatrix);
  draw("packages", data.packages, drawPackages);
  draw("clients", data.clients, drawClients);
  draw("refusals", data.refusals, drawRefusals);
  draw("happenings", data.happenings, drawHappenings);
  draw("caches", data.caches, drawCaches);
  for (const made of document.querySelectorAll("[data-since]")) {
    const text = age(Number(made.dataset.since));
    if (made.textContent !== text) made.textContent = text;
  }
}

async function ask() {
  if (asking) return;
  asking = true;
  try {
    const query = new URLSearchParams({ page: view.page, state: view.state, find: view.find });
    const answer = await fetch(`pkgsync/status.json?${query}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the scheduler answers ${answer.status}`);
    render(await answer.json());
    byId("lost").hidden = true;
  } catch (error) {
    byId("lost").hidden = false;
    byId("lost").textContent = `The scheduler does not answer (${error.message}). What you see may be old.`;
  } finally {
    asking = false;
  }
}

function look(changes) {
  Object.assign(view, changes);
  ask();
}

byId("filter").addEventListener("submit", (event) => event.preventDefault());
byId("state").addEventListener("change", (event) => look({ state: event.target.value, page: 1 }));
byId("find").addEventListener("input", (event) => look({ find: event.target.value, page: 1 }));
byId("previous").addEventListener("click", () => look({ page: view.page - 1 }));
byId("next").addEventListener("click", () => look({ page: view.page + 1 }));
document.addEventListener("visibilitychange", () => document.hidden || ask());
setInterval(() => document.hidden || ask(), 1000);
ask();
