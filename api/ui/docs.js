// Renders /api/openapi.json for people. No library, nothing from outside.
"use strict";

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return typeOf(schema.items) + "[]";
  return [].concat(schema.type || "any").join(" | ") + (schema.format ? ` (${schema.format})` : "");
}

function curl(method, path, operation) {
  const sample = { id: "019a0000-0000-7000-8000-0000000000aa", aid: "UUID", type: "Person", digest: "blake3:…" };
  const url = location.origin + path.replace(/\{(\w+)\}/g, (_, name) => sample[name] || name);
  const parts = ["curl -s"];
  if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
  parts.push(`'${url}'`);
  const body = operation.requestBody && operation.requestBody.content["application/json"];
  if (body) parts.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(body.example)}'`);
  return parts.join(" \\\n  ");
}

function rows(head, lines) {
  const cells = (tag, line) => element("tr", {}, ...line.map((cell) => element(tag, {}, cell)));
  return element("table", {}, cells("th", head), ...lines.map((line) => cells("td", line)));
}

function route(method, path, operation) {
  const answers = Object.entries(operation.responses).map(([status, answer]) => [
    element("code", {}, status),
    Object.keys(answer.content || {}).join(", "),
    answer.description,
  ]);
  const parameters = operation.parameters.map((parameter) => [
    element("code", {}, parameter.name),
    parameter.in,
    typeOf(parameter.schema),
    parameter.description || "",
  ]);
  const body = element("div", {}, element("pre", {}, curl(method, path, operation)));
  if (parameters.length) body.append(rows(["Parameter", "In", "Type", ""], parameters));
  body.append(rows(["Status", "Type", ""], answers));
  const title = element("summary", {}, element("code", { class: "method" }, method.toUpperCase()),
    element("code", {}, path), " ", element("span", { class: "muted" }, operation.summary));
  const made = element("details", {}, title, body);
  made.dataset.text = `${method} ${path} ${operation.summary}`.toLowerCase();
  return made;
}

function shapes(schemas) {
  return Object.entries(schemas).map(([name, schema]) => {
    const required = schema.required || [];
    const lines = Object.entries(schema.properties || {}).map(([field, of]) => [
      element("code", {}, field + (required.includes(field) ? "" : "?")), typeOf(of), of.description || "",
    ]);
    return element("details", { id: name }, element("summary", {}, element("code", {}, name)),
      element("div", {}, schema.description || "", rows(["Field", "Type", ""], lines)));
  });
}

async function main() {
  const answer = await fetch("/api/openapi.json");
  const api = await answer.json();
  document.getElementById("about").textContent = `${api.info.description} Version ${api.info.version}.`;
  const byTag = new Map();
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods)) {
      // HEAD is GET without the body, wherever there is GET.
      if (method === "head") continue;
      const tag = operation.tags[0];
      if (!byTag.has(tag)) byTag.set(tag, []);
      byTag.get(tag).push(route(method, path, operation));
    }
  const main = document.getElementById("routes");
  const contents = document.getElementById("contents");
  const section = (name, children) => {
    contents.append(element("a", { href: `#${name}` }, name));
    main.append(element("h2", { id: name }, name), ...children);
  };
  main.replaceChildren();
  for (const [tag, routes] of byTag) section(tag, routes);
  section("Shapes", shapes(api.components.schemas));
  section("Errors", [rows(["Code", "Status", "Meaning"], api["x-error-codes"].map((code) => [
    element("code", { id: code.code }, code.code), String(code.status), code.explanation,
  ]))]);
  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const made of main.querySelectorAll("details[data-text]"))
      made.hidden = !made.dataset.text.includes(wanted);
  });
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

main();
