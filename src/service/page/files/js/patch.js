// Changes a part of the page to a new one in place, so that opened details, focus, selection and scrolling stay.

/** Makes an element equal to `fresh`. Children with the same `data-key` stay themselves; others are compared by position. */
export function patch(element, fresh) {
  attributes(element, fresh);
  const keyed = new Map([...element.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  let at = element.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const same = wanted.dataset?.key ? keyed.get(wanted.dataset.key) : isLike(at, wanted) ? at : undefined;
    if (!same) {
      element.insertBefore(wanted, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else element.insertBefore(same, at);
    if (same.nodeType === Node.TEXT_NODE) {
      if (same.data !== wanted.data) same.data = wanted.data;
    } else {
      patch(same, wanted);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const isLike = (node, wanted) => node && node.nodeName === wanted.nodeName && !node.dataset?.key;

function attributes(element, fresh) {
  for (const { name } of [...element.attributes]) {
    // What a person has opened stays open.
    if (!fresh.hasAttribute(name) && name !== "open") element.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
}
