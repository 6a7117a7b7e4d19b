// The page at /docs: the gateway's own description, to read.

import { make } from "../dashboard/dom.js";

const main = document.querySelector("main");
const [openapi, asyncapi] = await Promise.all(["/openapi.json", "/asyncapi.json"].map(read));

async function read(url) {
  return (await fetch(url)).json();
}

function chapter(id, title, about, sections) {
  document.querySelector("nav").append(make("a", { href: `#${id}`, textContent: title }));
  main.append(make("h2", { id, textContent: title }));
  if (about) main.append(make("pre", { className: "quiet", textContent: about }));
  main.append(...sections);
}

function table(title, rows) {
  if (!rows.length) return "";
  const lines = rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))));
  return make("table", {}, make("caption", { textContent: title }), make("tbody", {}, ...lines));
}

/** A reference as a link to what it names. */
function type(schema = {}) {
  if (!schema.$ref) return words(schema);
  const name = schema.$ref.split("/").at(-1);
  return make("a", { href: `#schema-${name}`, textContent: name });
}

function words({ type: kind, enum: values, const: value, items, anyOf, minimum, maximum, description }) {
  if (values) return values.map((each) => JSON.stringify(each)).join(" or ");
  if (value !== undefined) return JSON.stringify(value);
  const name = anyOf ? anyOf.map(words).join(" or ") : kind === "array" ? `list of ${text(items)}` : (kind ?? "anything");
  const range = minimum === undefined ? "" : maximum === undefined ? ` from ${minimum}` : ` ${minimum} to ${maximum}`;
  return `${name}${range}${description ? `: ${description}` : ""}`;
}

const text = (schema = {}) => schema.$ref?.split("/").at(-1) ?? words(schema);

function resolved(parameter) {
  return parameter.$ref ? openapi.components.parameters[parameter.$ref.split("/").at(-1)] : parameter;
}

function url([path, operations]) {
  const [method, operation] = Object.entries(operations).find(([key]) => key === "get" || key === "post");
  const parameters = (operations.parameters ?? []).map(resolved);
  const answers = Object.entries(operation.responses).map(([code, { description, content = {} }]) => {
    const [[, body] = []] = Object.entries(content);
    return [code, make("span", {}, description, " ", body?.schema ? type(body.schema) : "")];
  });
  return make(
    "section",
    {},
    make("h3", { textContent: `${method.toUpperCase()} ${path}` }),
    make("p", { textContent: [operation.summary, operation.description].filter(Boolean).join(". ") }),
    table(
      "Asked by",
      parameters.map(({ name, description, in: where }) => [name, where === "query" ? description : `${description} (${where})`]),
    ),
    table("Answers", answers),
  );
}

function channel({ address, description, messages }) {
  const rows = Object.keys(messages).map((key) => {
    const { name, payload, summary } = asyncapi.components.messages[key];
    const [by] = key.split("_");
    return [`${by === "own" ? "sse" : by} ${name}`, make("span", {}, type(payload), " ", summary ?? "")];
  });
  return make(
    "section",
    {},
    make("h3", { textContent: address }),
    make("p", { textContent: description }),
    table("Says", rows),
  );
}

function schema([name, { description, properties = {}, required = [] }]) {
  const rows = Object.entries(properties).map(([key, each]) => [required.includes(key) ? key : `${key}?`, type(each)]);
  return make(
    "section",
    { id: `schema-${name}` },
    make("h3", { textContent: name }),
    make("p", { textContent: description ?? "" }),
    table("Members", rows),
  );
}

chapter("urls", "URLs", openapi.info.description, Object.entries(openapi.paths).map(url));
chapter("streams", "Streams", asyncapi.info.description, Object.values(asyncapi.channels).map(channel));
chapter("schemas", "Schemas", "", Object.entries(openapi.components.schemas).map(schema));
document.getElementById("wait").remove();
main.removeAttribute("aria-busy");
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
