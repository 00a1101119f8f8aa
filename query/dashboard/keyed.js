/** Elements that stay while what they show changes, so that nobody who is at one of them loses their place. */

const keys = new WeakMap();

/**
 * One child of `parent` for each item, in order. Where `key(item)` is that of the child that is there, the child stays,
 * otherwise `make(item)` takes its place; then `renew(child, item)` brings it up to date.
 */
export function fill(parent, items, key, make, renew = () => {}) {
  items.forEach((item, i) => {
    let child = parent.children[i];
    if (!child || keys.get(child) !== key(item)) {
      const fresh = make(item);
      keys.set(fresh, key(item));
      if (child) child.replaceWith(fresh);
      else parent.append(fresh);
      child = fresh;
    }
    renew(child, item);
  });
  while (parent.children.length > items.length) parent.lastElementChild.remove();
}

/** A new element with children, text or elements. */
export function made(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}
