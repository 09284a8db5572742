"use strict";
// Everything from the server is put in as text, never as markup.
const flow = document.getElementById("flow");
const counts = document.getElementById("counts");
const connection = document.getElementById("connection");
const provider = document.getElementById("provider");
let lanes = [];

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function show(arrow) {
  const id = `arrow-${arrow.number}`;
  const item = element("li");
  item.id = id;
  const time = element("time", `${arrow.at.toFixed(3)} s`);
  const [from, to] = [lanes.indexOf(arrow.left), lanes.indexOf(arrow.right)];
  const way = from === to ? "self" : from < to ? "right" : "left";
  const often = arrow.times > 1 ? `${arrow.times} × ` : "";
  const line = element("div", undefined, `arrow ${way} ${arrow.mood}`);
  line.append(element("span", (often + arrow.text).replaceAll("/", "/\u200b"))); // paths break at their slashes
  // Each lane is two columns wide: an arrow goes from the middle of one to the middle of the other.
  const [first, last] = [Math.min(from, to), Math.max(from, to)];
  line.style.gridColumn = from === to ? `${2 + 2 * from} / span 2` : `${3 + 2 * first} / ${3 + 2 * last}`;
  line.setAttribute("role", "img");
  line.setAttribute("aria-label", `${arrow.left} to ${arrow.right}: ${often}${arrow.text}`);
  item.append(time, line);
  if (arrow.headers.length) {
    const details = element("details");
    details.style.gridColumn = line.style.gridColumn;
    details.open = Boolean(document.querySelector(`#${id} details[open]`));
    details.append(element("summary", "headers"));
    details.append(element("pre", arrow.headers.map(([name, value]) => `${name}: ${value}`).join("\n")));
    item.append(details);
  }
  const known = document.getElementById(id);
  if (known) known.replaceWith(item);
  else flow.append(item);
  while (flow.children.length > 500) flow.firstChild.remove();
}

let pressed = false; // until what a button does is done, the page follows it, wherever it was
const atEnd = () => window.innerHeight + window.scrollY >= document.body.scrollHeight - 60;

const stream = new EventSource("live/events");
function tellConnection(text, mood) {
  connection.textContent = text;
  connection.className = mood;
}
stream.addEventListener("open", () => {
  tellConnection("connected", "good");
  flow.replaceChildren();
});
stream.addEventListener("error", () => tellConnection("the demo has ended, or is away", "bad"));
stream.addEventListener("lanes", (event) => {
  lanes = JSON.parse(event.data);
  document.getElementById("lanes").replaceChildren(...lanes.map((lane, number) => {
    const head = element("span", lane);
    head.style.gridColumn = `${2 + 2 * number} / span 2`;
    return head;
  }));
  document.getElementById("lines").replaceChildren(...lanes.map((_, number) => {
    const line = element("span");
    line.style.gridColumn = `${3 + 2 * number} / span 1`;
    return line;
  }));
});
stream.addEventListener("arrows", (event) => {
  const follow = pressed || atEnd();
  JSON.parse(event.data).forEach(show);
  if (follow) window.scrollTo(0, document.body.scrollHeight);
});
stream.addEventListener("counts", (event) => {
  const now = JSON.parse(event.data);
  counts.replaceChildren(...Object.entries(now).filter(([name]) => name !== "provider stopped").map(([name, value]) => {
    const pair = element("div");
    const number = element("dd", String(value));
    number.dataset.count = name;
    pair.append(element("dt", name), number);
    return pair;
  }));
  const stopped = now["provider stopped"] === 1;
  provider.setAttribute("aria-pressed", String(stopped));
  provider.dataset.action = stopped ? "start" : "stop";
  provider.lastChild.textContent = stopped ? " Start the provider" : " Stop the provider";
});

async function press(button) {
  if (button.id === "clear") {
    flow.replaceChildren();
    return;
  }
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  pressed = true;
  try {
    await fetch(`live/do/${button.dataset.action}`, { method: "POST", headers: { "X-Tokenvalet-Demo": "button" } });
  } catch {
    tellConnection("the demo has ended, or is away", "bad");
  } finally {
    button.removeAttribute("aria-busy");
    setTimeout(() => { pressed = false; }, 200);
  }
}

document.getElementById("buttons").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) press(button);
});
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = document.querySelector(`button[accesskey="${CSS.escape(event.key)}"]`);
  if (button) button.click();
});
