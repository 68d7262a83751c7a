// The few helpers that stand in for a framework.

export function find<T extends Element = HTMLElement> (id: string): T {
  const element = document.querySelector<T>(`#${id}`)
  if (element === null) {
    throw new Error(`index.html lacks #${id}`)
  }
  return element
}

export function html<K extends keyof HTMLElementTagNameMap> (
  tag: K, attrs: Record<string, string> = {}, ...children: Array<Node | string>
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag)
  setAttrs(element, attrs)
  element.append(...children)
  return element
}

export function svg<K extends keyof SVGElementTagNameMap> (tag: K, attrs: Record<string, string> = {}): SVGElementTagNameMap[K] {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag)
  setAttrs(element, attrs)
  return element
}

/** Writes only what differs: an untouched live region stays silent, a selection stays selected. */
export function setText (element: Element, text: string): void {
  if (element.textContent !== text) {
    element.textContent = text
  }
}

export function setAttrs (element: Element, attrs: Record<string, string>): void {
  for (const [name, value] of Object.entries(attrs)) {
    if (element.getAttribute(name) !== value) {
      element.setAttribute(name, value)
    }
  }
}

export function show (element: HTMLElement, visible: boolean): void {
  if (element.hidden === visible) {
    element.hidden = !visible
  }
}

/**
 * Makes parent's children stand for items, in their order, keeping an item's
 * element (and with it focus, selection, open details) from call to call.
 */
export function sync<T, E extends Element> (
  parent: Element, items: T[], key: (item: T) => string, create: (item: T) => E, update: (element: E, item: T) => void
): void {
  const old = new Map([...parent.children].map(c => [c.getAttribute('data-key'), c as E]))
  let before: Element | null = parent.firstElementChild
  for (const item of items) {
    const k = key(item)
    let element = old.get(k)
    old.delete(k)
    if (element === undefined) {
      element = create(item)
      element.setAttribute('data-key', k)
    }
    if (element === before) {
      before = before.nextElementSibling
    } else {
      parent.insertBefore(element, before)
    }
    update(element, item)
  }
  for (const gone of old.values()) {
    gone.remove()
  }
}
