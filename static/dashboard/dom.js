// The few things that every part of the page does to elements.

/** An element with properties, and children that are elements or text. Text is never read as HTML. */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function draw(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** The same text is not set again: a selection in it would be lost. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function attribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** A progress bar of spans: its fill only scales, which the compositor does by itself. */
export function fillBar(bar, id, progress) {
  if (bar.getAttribute("aria-valuenow") === String(progress)) return;
  bar.setAttribute("aria-valuenow", progress);
  bar.setAttribute("aria-label", `Progress of ${id}`);
  bar.firstElementChild.style.setProperty("transform", `scaleX(${progress / 100})`);
}

/** A bar that shows another task from now on jumps there. */
export function resetBar(bar) {
  const fill = bar.firstElementChild;
  bar.removeAttribute("aria-valuenow");
  fill.style.setProperty("transition", "none");
  requestAnimationFrame(() => requestAnimationFrame(() => fill.style.removeProperty("transition")));
}

/** Runs after the frame that is being made now is on the screen, or as near as a page can know. */
export function afterPaint(then) {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    channel.port1.close();
    then();
  };
  channel.port2.postMessage(0);
}

/** A button that copies; where the page has no clipboard (plain http from elsewhere), by a selection. */
export function copyButton(button, text, tell) {
  button.onclick = async () => {
    const copied = await copy(text());
    button.textContent = copied ? "Copied" : "Not allowed";
    tell(copied ? "Copied" : "Copying is not allowed");
    setTimeout(() => (button.textContent = "Copy"), 1500);
  };
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { value: text, className: "unseen" });
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus({ preventScroll: true });
    return copied;
  }
}
